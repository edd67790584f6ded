"""Keys as text, and the files that hold secrets."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.accounts.keys import generate_key, hash_key, key_prefix
from app.accounts.secret_files import load_pepper, write_secret
from fusion.errors import InfrastructureError


def test_a_key_carries_its_prefix_and_256_random_bits() -> None:
    keys = {generate_key().text for _ in range(50)}

    assert len(keys) == 50
    for text in keys:
        assert key_prefix(text) == text[:12]
        assert len(text.removeprefix(text[:13])) == 43


@pytest.mark.parametrize(
    "text", ["", "sk-123", "fus_abc", "fus_ABCDEFGH_" + "a" * 43, "fus_abcdefgh_" + "a" * 44]
)
def test_what_is_not_a_key_has_no_prefix(text: str) -> None:
    assert key_prefix(text) is None


def test_the_hash_depends_on_the_pepper() -> None:
    assert hash_key("fus_x", pepper=b"one") != hash_key("fus_x", pepper=b"two")
    assert "fus_x" not in hash_key("fus_x", pepper=b"one")


def test_a_secret_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    write_secret(tmp_path / "deep" / "key", "first")
    write_secret(tmp_path / "deep" / "key", "second")

    path = tmp_path / "deep" / "key"
    assert path.read_text() == "second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_processes_that_start_at_once_agree_on_one_pepper(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "pepper"
    with ThreadPoolExecutor(8) as pool:
        peppers = set(pool.map(lambda _: load_pepper(path), range(16)))

    assert len(peppers) == 1
    assert peppers == {load_pepper(path)}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_given_pepper_wins_over_the_file(tmp_path: Path) -> None:
    assert load_pepper(tmp_path / "pepper", given="x" * 40) == b"x" * 40
    assert not (tmp_path / "pepper").exists()


def test_a_pepper_that_is_no_secret_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="FUSION_KEY_PEPPER holds 5 bytes"):
        load_pepper(tmp_path / "pepper", given="short")
    (tmp_path / "pepper").write_text("")
    with pytest.raises(InfrastructureError, match="expected at least 32"):
        load_pepper(tmp_path / "pepper")
