"""The object store over obstore: local folder, memory, S3, GCS, Azure.

A local folder is linked to and from, which obstore does not do; everything else goes through obstore.
"""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError

from app.storage.store import ObjectMissing, check_key
from fusion.errors import InfrastructureError

LOCAL_PIECE_BYTES = 1 << 20
# A remote piece is a request of its own: large enough to hide the round trip, small enough to hold in memory.
REMOTE_PIECE_BYTES = 8 << 20
# Up to this size one request can both upload and refuse to overwrite; beyond it the upload has parts.
_SINGLE_REQUEST_BYTES = 8 << 20
_MAX_CONCURRENT_PARTS = 4
_READ_ONLY = 0o444
# Filesystems that cannot link say so in different words.
_CANNOT_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES})


class ObjectStorage:
    """Implements `app.storage.store.ObjectStore`."""

    def __init__(self, store: Any, *, local_root: Path | None = None) -> None:
        self._store = store
        self._local_root = local_root
        self._piece_bytes = LOCAL_PIECE_BYTES if local_root else REMOTE_PIECE_BYTES

    @property
    def is_local(self) -> bool:
        return self._local_root is not None

    def put_file(self, key: str, path: Path) -> None:
        if self.size(key) == path.stat().st_size:
            return
        with _translated(key):
            if self._local_root is None:
                self._upload(key, path)
            else:
                _link_or_copy(path, self._local_root / key)

    def open_range(self, key: str, *, start: int, end: int) -> Iterator[bytes]:
        check_key(key)
        position = start
        while position < end:
            length = min(self._piece_bytes, end - position)
            with _translated(key):
                piece = bytes(obstore.get_range(self._store, key, start=position, length=length))
            if len(piece) != length:
                raise InfrastructureError(
                    f"storage object {key} gave {len(piece)} bytes at {position}, expected {length}",
                    code="storage_object_damaged",
                )
            yield piece
            position += length

    def get_file(self, key: str, path: Path) -> None:
        size = self.size(key)
        if size is None:
            raise ObjectMissing(f"storage holds no object {key}", code="storage_object_missing")
        with _translated(key):
            if self._local_root is None:
                self._download(key, path, num_bytes=size)
            else:
                _link_or_copy(self._local_root / key, path)

    def size(self, key: str) -> int | None:
        check_key(key)
        try:
            with _translated(key):
                return int(obstore.head(self._store, key)["size"])
        except ObjectMissing:
            return None

    def delete(self, key: str) -> None:
        check_key(key)
        try:
            with _translated(key):
                obstore.delete(self._store, key)
        except ObjectMissing:
            return

    def _upload(self, key: str, path: Path) -> None:
        if path.stat().st_size > _SINGLE_REQUEST_BYTES:
            obstore.put(
                self._store,
                key,
                path,
                chunk_size=_SINGLE_REQUEST_BYTES,
                max_concurrency=_MAX_CONCURRENT_PARTS,
            )
            return
        try:
            obstore.put(self._store, key, path.read_bytes(), mode="create")
        except AlreadyExistsError:
            # Keys are digests: whoever came first wrote the same bytes.
            return

    def _download(self, key: str, path: Path, *, num_bytes: int) -> None:
        with _appearing(path) as partial, partial.open("wb") as file:
            for piece in self.open_range(key, start=0, end=num_bytes):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())


def _link_or_copy(source: Path, destination: Path) -> None:
    """Make `destination` the same bytes as `source`, read-only and durable. Replaces what was there."""
    with _appearing(destination) as partial:
        try:
            os.link(source, partial)
        except OSError as error:
            if error.errno not in _CANNOT_LINK:
                raise
            shutil.copyfile(source, partial)
        partial.chmod(_READ_ONLY)
        _sync(partial)


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` that takes its place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        # rename(2) does nothing when both names are links to one file, so the partial may still be there.
        partial.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(key: str) -> Iterator[None]:
    """Turn the errors of obstore and of the disk into ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissing(f"storage holds no object {key}", code="storage_object_missing") from error
    except (BaseError, OSError) as error:
        raise InfrastructureError(
            f"storage failed on object {key}: {error}",
            code="storage_unavailable",
            hint="check the storage URL, its credentials and the free space",
        ) from error
