"""The promises of the object store, on a folder, in memory and on S3."""

import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from app.storage.digests import FileDamaged
from app.storage.opening import open_store
from app.storage.store import (
    ObjectDamaged,
    ObjectMissing,
    ObjectStore,
    StoredObject,
    blob_key,
    check_key,
)
from fusion.errors import InfrastructureError, UserError
from tests.support.object_store import s3_client

KEY = blob_key(project_id="proj-1", sha256="ab" * 32)


@pytest.fixture(params=["file", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "s3":
        return open_store(request.getfixturevalue("s3_url"))
    return open_store(f"file://{tmp_path}/the%20store" if request.param == "file" else "memory://")


def _put(store: ObjectStore, folder: Path, data: bytes, *, name: str = "source") -> Path:
    """Store `data` from a file of the folder."""
    path = folder / name
    path.write_bytes(data)
    store.put_file(KEY, path, sha256=_sha256(data))
    return path


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(store: ObjectStore) -> bytes:
    return b"".join(store.open_range(KEY, start=0, end=store.size(KEY) or 0))


def test_a_file_comes_back_as_it_was(store: ObjectStore, tmp_path: Path) -> None:
    _put(store, tmp_path, b"weights")

    store.get_file(KEY, tmp_path / "out" / "deep" / "copy", sha256=_sha256(b"weights"))

    assert (tmp_path / "out" / "deep" / "copy").read_bytes() == b"weights"
    assert store.size(KEY) == 7
    assert [path.name for path in (tmp_path / "out" / "deep").iterdir()] == ["copy"]


def test_an_object_already_there_is_kept(store: ObjectStore, tmp_path: Path) -> None:
    _put(store, tmp_path, b"weights")
    ((before,),) = store.list_objects("blobs")

    _put(store, tmp_path, b"weights", name="again")

    assert list(store.list_objects("blobs")) == [[before]]
    assert before == StoredObject(key=KEY, num_bytes=7, modified_at=before.modified_at)


@pytest.mark.parametrize("is_known", [False, True])
def test_an_object_with_other_bytes_is_replaced(store: ObjectStore, tmp_path: Path, is_known: bool) -> None:
    """Damage that was found is mended by whoever stores the bytes again."""
    if is_known:
        _put(store, tmp_path, b"weights", name="first")
        store.delete(KEY)
    assert store.create(KEY, b"wei9hts")
    with suppress(ObjectDamaged):
        store.get_file(KEY, tmp_path / "noticed", sha256=_sha256(b"weights"))

    _put(store, tmp_path, b"weights")

    assert _read(store) == b"weights"


@pytest.mark.parametrize("num_bytes", [7, 12 << 20])
def test_a_file_that_is_not_what_its_digest_says_is_not_stored(
    store: ObjectStore, tmp_path: Path, num_bytes: int
) -> None:
    (tmp_path / "source").write_bytes(bytes(num_bytes))

    with pytest.raises(FileDamaged):
        store.put_file(KEY, tmp_path / "source", sha256=_sha256(bytes(num_bytes - 1) + b"1"))

    assert store.size(KEY) is None
    assert [page for page in store.list_objects("blobs") if page] == []


@pytest.mark.parametrize("damage", [b"wei9hts", b"weight", b""])
def test_damage_is_an_error_and_nothing_appears(store: ObjectStore, tmp_path: Path, damage: bytes) -> None:
    assert store.create(KEY, damage)

    with pytest.raises(ObjectDamaged) as caught:
        store.get_file(KEY, tmp_path / "out" / "copy", sha256=_sha256(b"weights"))

    assert caught.value.code == "storage_object_damaged"
    assert list((tmp_path / "out").iterdir()) == []


def test_only_one_of_many_creates_an_object(store: ObjectStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda number: store.create("probe/one", b"%d" % number), range(8)))

    assert created.count(True) == 1
    assert b"".join(store.open_range("probe/one", start=0, end=1)) == b"%d" % created.index(True)


def test_writers_of_the_same_bytes_agree(store: ObjectStore, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: _put(store, tmp_path, b"weights", name=name), "abcdefgh"))

    assert _read(store) == b"weights"
    assert [len(page) for page in store.list_objects("blobs")] == [1]


def test_objects_are_listed_and_deleted_together(store: ObjectStore) -> None:
    keys = {f"blobs/{folder}/{number}" for folder in ("one", "two") for number in range(3)}
    for key in (*keys, "blobsicle/three"):
        store.create(key, b"x")

    listed = {item.key for page in store.list_objects("blobs") for item in page}
    store.delete(*sorted(keys), "blobs/one/not-there")

    assert listed == keys
    assert [page for page in store.list_objects("blobs") if page] == []
    assert store.size("blobsicle/three") == 1


@pytest.mark.parametrize(("start", "end"), [(0, 10), (3, 7), (9, 10), (4, 4)])
def test_ranges_equal_slices(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: int, end: int
) -> None:
    monkeypatch.setattr(store, "_piece_bytes", 4)
    _put(store, tmp_path, b"0123456789")

    pieces = list(store.open_range(KEY, start=start, end=end))

    assert b"".join(pieces) == b"0123456789"[start:end]
    assert all(len(piece) <= 4 for piece in pieces)


def test_reading_past_the_end_is_an_error_and_not_a_short_answer(store: ObjectStore, tmp_path: Path) -> None:
    _put(store, tmp_path, b"0123456789")

    with pytest.raises(InfrastructureError):
        list(store.open_range(KEY, start=5, end=20))


def test_missing_objects(store: ObjectStore, tmp_path: Path) -> None:
    assert store.size(KEY) is None
    store.delete(KEY)
    with pytest.raises(ObjectMissing, match="holds no object"):
        store.get_file(KEY, tmp_path / "copy", sha256=_sha256(b"weights"))
    with pytest.raises(ObjectMissing):
        list(store.open_range(KEY, start=0, end=1))
    assert not (tmp_path / "copy").exists()


def test_a_deleted_object_is_gone_and_its_copies_stay(store: ObjectStore, tmp_path: Path) -> None:
    _put(store, tmp_path, b"weights")
    store.get_file(KEY, tmp_path / "copy", sha256=_sha256(b"weights"))

    store.delete(KEY)

    assert store.size(KEY) is None
    assert (tmp_path / "copy").read_bytes() == b"weights"


def test_large_files_go_in_parts_of_which_none_is_left(s3_url: str, s3_server: str, tmp_path: Path) -> None:
    store, data = open_store(s3_url), os.urandom(20 << 20)
    bucket = s3_url.split("/")[2]

    _put(store, tmp_path, data)
    with pytest.raises(FileDamaged):
        store.put_file("blobs/other", tmp_path / "source", sha256="0" * 64)

    assert _read(store) == data
    client = s3_client(s3_server)
    (stored,) = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert (stored["Key"], stored["ETag"].strip('"')[-2:]) == (f"fusion/{KEY}", "-3")
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


def test_a_folder_store_links_instead_of_copying(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store")
    source = _put(store, tmp_path, b"weights")
    store.get_file(KEY, tmp_path / "copy", sha256=_sha256(b"weights"))

    blob = tmp_path / "store" / KEY
    assert blob.stat().st_ino == source.stat().st_ino == (tmp_path / "copy").stat().st_ino
    assert stat.S_IMODE(blob.stat().st_mode) == 0o444


def test_a_folder_store_copies_where_it_cannot_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, destination: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    store = open_store(f"file://{tmp_path}/store")
    source = _put(store, tmp_path, b"weights")

    blob = tmp_path / "store" / KEY
    assert blob.read_bytes() == b"weights"
    assert blob.stat().st_ino != source.stat().st_ino
    assert [path.name for path in blob.parent.iterdir()] == [blob.name]


def test_getting_the_same_object_twice_leaves_no_partial(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store")
    _put(store, tmp_path, b"weights")

    store.get_file(KEY, tmp_path / "out" / "copy", sha256=_sha256(b"weights"))
    store.get_file(KEY, tmp_path / "out" / "copy", sha256=_sha256(b"weights"))

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
        _put(store, tmp_path, b"weights")

    assert caught.value.retryable


def test_an_unknown_scheme_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="ftp") as caught:
        open_store("ftp://host/folder")
    assert "s3://" in (caught.value.hint or "")
