"""Folders are complete or absent, and damage is found."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fusion.errors import InfrastructureError
from fusion.io import atomic
from fusion.io.atomic import atomic_folder, read_json, write_json
from fusion.io.manifest import is_complete, read_manifest, verify_manifest, write_manifest


def test_a_folder_appears_only_when_its_block_ends(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("1")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "a").read_text() == "1"


def test_every_file_and_folder_is_synced_before_the_name_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        atomic, "sync_file", lambda path: synced.append(path.relative_to(tmp_path).as_posix())
    )
    monkeypatch.setattr(atomic, "sync_folder", atomic.sync_file)

    with atomic_folder(tmp_path / "out") as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "a").write_text("1")

    assert sorted(synced[:-1]) == ["out.partial", "out.partial/deep", "out.partial/deep/a"]
    assert synced[-1] == "."


def test_an_error_leaves_the_earlier_folder(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "out") as partial:
        (partial / "missing" / "a").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "a").read_text() == "old"


def test_a_killed_writer_leaves_no_folder(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from fusion.io.atomic import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1])) as partial:\n"
        "    (partial / 'a').write_text('1'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "out")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    with atomic_folder(tmp_path / "out") as partial:
        assert not list(partial.iterdir())


def test_a_manifest_lists_every_file_with_its_digest(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_bytes(b"hello")
    written = write_manifest(tmp_path, kind="test", meta={"n": 1})
    manifest = verify_manifest(tmp_path)
    assert manifest == written
    assert manifest.files[0].path == "sub/b"
    assert manifest.files[0].sha256 == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def test_a_folder_without_manifest_is_unfinished(tmp_path: Path) -> None:
    assert not is_complete(tmp_path)
    with pytest.raises(InfrastructureError, match="unfinished"):
        read_manifest(tmp_path)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, kind="capture")
    with pytest.raises(InfrastructureError, match="holds 'capture', expected 'lessons'"):
        read_manifest(tmp_path, kind="lessons")


def test_a_torn_file_is_found_by_size_and_a_flipped_byte_by_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    write_manifest(tmp_path, kind="test")
    (tmp_path / "a").write_bytes(b"12346")
    read_manifest(tmp_path)
    with pytest.raises(InfrastructureError, match="sha256"):
        verify_manifest(tmp_path)
    os.truncate(tmp_path / "a", 2)
    with pytest.raises(InfrastructureError, match="2 bytes, expected 5 bytes"):
        read_manifest(tmp_path)


def test_equal_values_give_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1, "é"]})
    write_json(tmp_path / "b.json", {"a": [1, "é"], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_json(tmp_path / "a.json") == {"a": [1, "é"], "b": 1}
