"""The service reads what the engine writes, and nothing that points elsewhere."""

import json
from pathlib import Path

import pytest

from app.artifacts.manifest import ManifestFile, check_file, check_relative_path, read_folder_manifest
from fusion.errors import InfrastructureError
from fusion.io.manifest import write_manifest


def _finished(folder: Path) -> Path:
    (folder / "shard-00000").mkdir(parents=True)
    (folder / "shard-00000" / "rows.bin").write_bytes(b"rows")
    (folder / "notes ü.txt").write_text("notes")
    return folder


def test_both_sides_agree_on_a_folder(tmp_path: Path) -> None:
    written = write_manifest(_finished(tmp_path), kind="prepared", meta={"num_documents": 3})

    read = read_folder_manifest(tmp_path)

    assert read.digest == written.digest
    assert [(file.path, file.size, file.sha256) for file in read.files] == [
        (file.path, file.size, file.sha256) for file in written.files
    ]
    assert (read.kind, read.meta) == ("prepared", {"num_documents": 3})


def test_a_folder_without_a_manifest_is_unfinished(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="unfinished"):
        read_folder_manifest(_finished(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 2},
        {"files": [{"path": "../outside", "size": 1, "sha256": "0" * 64}]},
        {"files": [{"path": "/etc/passwd", "size": 1, "sha256": "0" * 64}]},
        {"files": [{"path": "a", "size": -1, "sha256": "0" * 64}]},
        {"files": [{"path": "a", "size": 1, "sha256": "XYZ"}]},
    ],
)
def test_a_manifest_that_cannot_be_trusted_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    manifest = {"format_version": 1, "kind": "x", "files": [], "meta": {}} | change
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(InfrastructureError) as caught:
        read_folder_manifest(tmp_path)

    assert caught.value.code == "manifest_unreadable"


@pytest.mark.parametrize(
    "path", ["", "..", "../a", "a/../b", "/a", "a//b", "a/", "./a", "a\\b", "a\0b", "a\nb"]
)
def test_paths_that_could_leave_the_folder_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        check_relative_path(path)


def test_a_file_must_be_what_the_manifest_says(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1234")
    (tmp_path / "link").symlink_to("/etc/hostname")
    right = "03ac674216f3e15c761ee1a5e255f067953623c8b388b4459e13f978d7c846f4"

    assert check_file(tmp_path, ManifestFile(path="a", size=4, sha256=right)) == tmp_path / "a"
    for wrong in (
        ManifestFile(path="a", size=5, sha256=right),
        ManifestFile(path="missing", size=4, sha256=right),
        ManifestFile(path="link", size=4, sha256=right),
    ):
        with pytest.raises(InfrastructureError) as caught:
            check_file(tmp_path, wrong)
        assert caught.value.code == "folder_damaged"
