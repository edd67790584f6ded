"""The promises of the object store, on a folder and on a store without links (memory stands for S3)."""

import os
import stat
from pathlib import Path

import pytest

from app.storage import object_storage
from app.storage.opening import open_store
from app.storage.store import ObjectMissing, ObjectStore, blob_key, check_key
from fusion.errors import InfrastructureError, UserError

KEY = blob_key(project_id="proj-1", sha256="ab" * 32)


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return open_store(f"file://{tmp_path}/the%20store" if request.param == "file" else "memory://")


def _write(folder: Path, data: bytes) -> Path:
    path = folder / "source"
    path.write_bytes(data)
    return path


def test_a_file_comes_back_as_it_was(store: ObjectStore, tmp_path: Path) -> None:
    store.put_file(KEY, _write(tmp_path, b"weights"))

    store.get_file(KEY, tmp_path / "out" / "deep" / "copy")

    assert (tmp_path / "out" / "deep" / "copy").read_bytes() == b"weights"
    assert store.size(KEY) == 7
    assert [path.name for path in (tmp_path / "out" / "deep").iterdir()] == ["copy"]


def test_an_object_already_there_is_kept(store: ObjectStore, tmp_path: Path) -> None:
    store.put_file(KEY, _write(tmp_path, b"first"))
    (tmp_path / "again").write_bytes(b"other")

    store.put_file(KEY, tmp_path / "again")

    assert b"".join(store.open_range(KEY, start=0, end=5)) == b"first"


@pytest.mark.parametrize(("start", "end"), [(0, 10), (3, 7), (9, 10), (4, 4)])
def test_ranges_equal_slices(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: int, end: int
) -> None:
    monkeypatch.setattr(store, "_piece_bytes", 4)
    store.put_file(KEY, _write(tmp_path, b"0123456789"))

    pieces = list(store.open_range(KEY, start=start, end=end))

    assert b"".join(pieces) == b"0123456789"[start:end]
    assert all(len(piece) <= 4 for piece in pieces)


def test_reading_past_the_end_is_an_error_and_not_a_short_answer(store: ObjectStore, tmp_path: Path) -> None:
    store.put_file(KEY, _write(tmp_path, b"0123456789"))

    with pytest.raises(InfrastructureError):
        list(store.open_range(KEY, start=5, end=20))


def test_missing_objects(store: ObjectStore, tmp_path: Path) -> None:
    assert store.size(KEY) is None
    store.delete(KEY)
    with pytest.raises(ObjectMissing, match="holds no object"):
        store.get_file(KEY, tmp_path / "copy")
    with pytest.raises(ObjectMissing):
        list(store.open_range(KEY, start=0, end=1))
    assert not (tmp_path / "copy").exists()


def test_a_deleted_object_is_gone_and_its_copies_stay(store: ObjectStore, tmp_path: Path) -> None:
    store.put_file(KEY, _write(tmp_path, b"weights"))
    store.get_file(KEY, tmp_path / "copy")

    store.delete(KEY)

    assert store.size(KEY) is None
    assert (tmp_path / "copy").read_bytes() == b"weights"


def test_large_uploads_go_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_storage, "_SINGLE_REQUEST_BYTES", 5 << 20)
    data = os.urandom(12 << 20)
    store = open_store("memory://")

    store.put_file(KEY, _write(tmp_path, data))

    assert b"".join(store.open_range(KEY, start=0, end=len(data))) == data


def test_a_folder_store_links_instead_of_copying(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store")
    source = _write(tmp_path, b"weights")

    store.put_file(KEY, source)
    store.get_file(KEY, tmp_path / "copy")

    blob = tmp_path / "store" / KEY
    assert blob.stat().st_ino == source.stat().st_ino == (tmp_path / "copy").stat().st_ino
    assert stat.S_IMODE(blob.stat().st_mode) == 0o444


def test_a_folder_store_copies_where_it_cannot_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, destination: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    store = open_store(f"file://{tmp_path}/store")
    source = _write(tmp_path, b"weights")

    store.put_file(KEY, source)

    blob = tmp_path / "store" / KEY
    assert blob.read_bytes() == b"weights"
    assert blob.stat().st_ino != source.stat().st_ino
    assert [path.name for path in blob.parent.iterdir()] == [blob.name]


def test_getting_the_same_object_twice_leaves_no_partial(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store")
    store.put_file(KEY, _write(tmp_path, b"weights"))

    store.get_file(KEY, tmp_path / "out" / "copy")
    store.get_file(KEY, tmp_path / "out" / "copy")

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["copy"]


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "a/../b", "..", "a//b", "a/./b", "a\0b", "a\\..\\b", "a/b/", "x" * 2000]
)
def test_hostile_keys_are_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError, match="storage key"):
        check_key(key)
    with pytest.raises(ValueError, match="storage key"):
        store.size(key)
    with pytest.raises(ValueError, match="storage key"):
        list(store.open_range(key, start=0, end=1))


def test_a_store_that_cannot_be_reached_says_what_to_check(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store")
    (tmp_path / "store" / "blobs").write_bytes(b"a file where a folder should be")

    with pytest.raises(InfrastructureError) as caught:
        store.put_file(KEY, _write(tmp_path, b"weights"))

    assert caught.value.retryable


def test_an_unknown_scheme_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="ftp") as caught:
        open_store("ftp://host/folder")
    assert "s3://" in (caught.value.hint or "")
