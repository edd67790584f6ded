"""Settings from the environment."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings, load_settings
from fusion.errors import UserError


def test_everything_lies_in_the_data_folder(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)

    assert settings.database_url == f"sqlite:///{tmp_path}/fusion.db"
    assert settings.storage_url == f"file://{tmp_path}/storage"
    assert settings.key_pepper_file == tmp_path / "secrets" / "key_pepper"
    assert settings.sealing_key_file == tmp_path / "secrets" / "sealing_key"
    assert (settings.broker_url, settings.host) == (None, "127.0.0.1")


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FUSION_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("FUSION_DATABASE_URL", "postgresql://db/fusion")
    monkeypatch.setenv("FUSION_ALLOWED_ROOTS", f"{tmp_path}/a:{tmp_path}/b/../c:")
    monkeypatch.setenv("FUSION_LEASE_SECONDS", "90")

    settings = Settings()

    assert settings.database_url == "postgresql://db/fusion"
    assert settings.allowed_roots == (tmp_path / "a", tmp_path / "c")
    assert settings.lease_seconds == 90


def test_a_relative_data_folder_is_resolved_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    assert Settings(data_dir=Path("data")).data_dir == tmp_path / "data"


def test_servers_for_models_are_whole_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_PUBLISH_ORIGINS", "HTTPS://MLflow.example.com:443/, http://10.0.0.7:9000")
    monkeypatch.setenv("FUSION_PUBLISH_TARGETS", "s3,mlflow")

    settings = Settings()

    assert settings.publish_origins == ("https://mlflow.example.com", "http://10.0.0.7:9000")
    assert [*settings.publish_targets] == ["s3", "mlflow"]


@pytest.mark.parametrize(
    "url", ["https://mlflow.example.com/team-a", "https://a?b", "ftp://a", "https://u@a"]
)
def test_anything_wider_or_narrower_than_a_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="https://"):
        Settings(publish_origins=(url,))


def test_a_lease_must_outlive_a_lost_heartbeat() -> None:
    with pytest.raises(ValidationError, match="at least twice heartbeat_seconds"):
        Settings(lease_seconds=20, heartbeat_seconds=15)


def test_secrets_are_not_shown() -> None:
    assert "hush" not in repr(Settings(key_pepper="hush-hush"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FUSION_PORT", "http"),
        ("FUSION_LEASE_SECONDS", "0"),
        ("FUSION_DATABASE_URL", "mysql://user:secret@host/x"),
        ("FUSION_DATABASE_URL", "secret"),
        ("FUSION_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_variable_is_named_and_its_value_is_not(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(UserError, match=f"{name}: ") as caught:
        load_settings()

    assert caught.value.code == "settings_invalid"
    assert "secret" not in caught.value.message


def test_variables_that_contradict_each_other_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_HEARTBEAT_SECONDS", "50")

    with pytest.raises(UserError, match=r"^lease_seconds \(60\) must be at least"):
        load_settings()
