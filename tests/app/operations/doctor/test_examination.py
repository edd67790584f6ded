"""A doctor that finds nothing is tested with what is broken: one thing at a time."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, text, update
from typer.testing import CliRunner

from app.cli.commands import app
from app.db.base import db_time
from app.db.models import Step, Worker
from app.db.session import transaction
from app.operations.doctor import database, surroundings
from app.operations.doctor.examination import examine
from app.operations.doctor.findings import Finding, Level
from app.settings import Settings
from tests.app.jobs import builders as given
from tests.support.api import Api, make_api


def broken(findings: list[Finding], level: Level = Level.ERROR) -> dict[str, str]:
    """Details by check; every one must say what mends it."""
    found = {finding.check: finding.detail for finding in findings if finding.level is level}
    assert all(finding.hint for finding in findings if finding.level is not Level.OK)
    return found


def test_a_healthy_service_is_healthy(engine: Engine, settings: Settings) -> None:
    settings.data_dir.mkdir()
    given.try_claim(engine)

    findings = examine(settings, verify_artifacts=True)

    assert broken(findings) == {}
    # The tests' own role is a superuser, whom no row-level security holds.
    assert broken(findings, Level.WARNING).keys() <= {"disk", "projects"}
    assert {finding.check for finding in findings} >= {
        "database", "migrations", "clock", "workers", "leases", "queues", "broker", "storage",
        "conditional put", "disk", "settings", "artifacts",
    }  # fmt: skip


def test_a_missing_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'missing' / 'fusion.db'}"

    found = broken(examine(Settings(data_dir=tmp_path, database_url=url), verify_artifacts=True))

    assert "does not answer" in found["database"]
    assert found["artifacts"] == "not verified"


def test_tables_of_another_release(engine: Engine, settings: Settings) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))

    assert broken(examine(settings)).keys() == {"migrations"}


def expire(engine: Engine) -> None:
    given.expire_lease(engine, given.claim(engine).step_id)
    with transaction(engine) as session:
        session.execute(update(Step).where(Step.status == "running").values(lease_ends_at=db_time(-600)))


def silence(engine: Engine) -> None:
    given.try_claim(engine, resources=("gpu",))
    with transaction(engine) as session:
        session.execute(update(Worker).values(last_seen_at=db_time(-3600)))


@pytest.mark.parametrize(
    ("cause", "check", "words"),
    [
        (expire, "leases", "1 steps are running although their lease ended"),
        (silence, "queues", "1 steps wait for a cpu worker, and none is alive"),
    ],
)
def test_steps_that_do_not_move(
    engine: Engine, settings: Settings, cause: Callable[[Engine], None], check: str, words: str
) -> None:
    given.submit_in_new_project(engine)
    cause(engine)

    assert words in broken(examine(settings))[check]


def test_clocks_that_disagree(engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "db_time", lambda *_: db_time(90))

    assert (
        "by 89." in broken(examine(settings), Level.WARNING)["clock"]
        or "by 90.0" in broken(examine(settings), Level.WARNING)["clock"]
    )


def test_a_broker_that_is_not_there(engine: Engine, settings: Settings, free_tcp_port: int) -> None:
    gone = settings.model_copy(update={"broker_url": f"redis://127.0.0.1:{free_tcp_port}/0"})

    assert "does not answer" in broken(examine(gone), Level.WARNING)["broker"]


def test_storage_that_cannot_be_written(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    unusable = settings.model_copy(update={"storage_url": f"file://{tmp_path}/file"})

    assert "cannot be used" in broken(examine(unusable))["storage"]


def test_a_full_disk(engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.data_dir.mkdir()
    monkeypatch.setattr(surroundings, "_LOW_BYTES", 1e18)
    monkeypatch.setattr(surroundings, "_LOW_SHARE", 1.1)

    assert "GB are free" in broken(examine(settings))["disk"]


def test_settings_that_contradict(tmp_path: Path) -> None:
    pepper = tmp_path / "pepper"
    pepper.write_bytes(b"secret")
    pepper.chmod(0o644)
    settings = Settings(
        data_dir=tmp_path,
        storage_url="memory://",
        broker_url="redis://127.0.0.1:1/0",
        key_pepper_file=pepper,
        allowed_roots=(tmp_path / "nowhere",),
        lease_seconds=10,
        heartbeat_seconds=2,
        reconcile_seconds=60,
    )

    findings = [finding.detail for finding in surroundings.check_settings(settings)]

    for words in (
        "memory of one process",
        "SQLite file",
        "reconcile_seconds (60)",
        "nowhere",
        "others can read",
    ):
        assert any(words in detail for detail in findings), words


@pytest.mark.parametrize("damage", ["flipped", "short", "missing"])
def test_a_damaged_byte_is_found_and_named(tmp_path: Path, damage: str) -> None:
    api: Api = make_api(tmp_path)
    uploaded = api.client.post("/v1/files?filename=a.txt", content=b"text", headers=api.headers).json()
    (blob,) = (path for path in (tmp_path / "data" / "storage").rglob("*") if path.is_file())
    blob.chmod(0o600)
    {
        "flipped": lambda: blob.write_bytes(b"tezt"),
        "short": lambda: os.truncate(blob, 3),
        "missing": blob.unlink,
    }[damage]()

    (found,) = broken(list(verify(api))).values()

    assert uploaded["id"] in found


def verify(api: Api) -> list[Finding]:
    from app.operations.doctor.artifacts import check_artifacts

    return list(check_artifacts(api.engine, api.store))


@pytest.mark.parametrize("is_migrated", [True, False])
def test_the_command_tells_programs_too(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch, is_migrated: bool
) -> None:
    if not is_migrated:
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    monkeypatch.setenv("FUSION_DATABASE_URL", settings.database_url)
    command = ["doctor", "--data-dir", str(settings.data_dir)]

    as_json = CliRunner().invoke(app, [*command, "--json"])
    as_text = CliRunner().invoke(app, command)

    assert (as_json.exit_code, as_text.exit_code) == ((0, 0) if is_migrated else (1, 1))
    assert json.loads(as_json.stdout)["healthy"] is is_migrated
    assert ("mend: run `python -m app.db.migrate`" in as_text.stdout) is not is_migrated
