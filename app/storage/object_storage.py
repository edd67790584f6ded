"""The object store over obstore: local folder, memory, S3, GCS, Azure.

A local folder is linked to and from, which obstore does not do; everything else goes through obstore. An
upload in parts that fails is aborted by obstore; one whose process dies is left to the bucket's own rule for
incomplete uploads (docs/operations.md).
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from app.logs import get_logger
from app.storage.digests import check_digest, checked_pieces, file_sha256, pieces_sha256
from app.storage.links import appearing, appearing_for_good, link_or_copy
from app.storage.store import ObjectDamaged, ObjectMissing, StoredObject, check_key
from fusion.errors import FusionError, InfrastructureError
from fusion.failpoints import failpoint

LOCAL_PIECE_BYTES = 1 << 20
# A remote piece is a request of its own: large enough to hide the round trip, small enough to hold in memory.
REMOTE_PIECE_BYTES = 8 << 20
# Up to this size one request can both upload and refuse to overwrite; beyond it the upload has parts.
_SINGLE_REQUEST_BYTES = 8 << 20
_MAX_CONCURRENT_PARTS = 4
_MAX_KNOWN_KEYS = 20_000
# Whoever follows a signed URL saves the bytes, whatever they look like to a browser.
_ATTRIBUTES = {"Content-Disposition": "attachment", "Content-Type": "application/octet-stream"}

log = get_logger(__name__)


class ObjectStorage:
    """Implements `app.storage.store.ObjectStore`."""

    def __init__(self, store: Any, *, local_root: Path | None = None) -> None:
        self._store = store
        self._local_root = local_root
        self._piece_bytes = LOCAL_PIECE_BYTES if local_root else REMOTE_PIECE_BYTES
        # Objects whose bytes this process has seen to be right: they are not read again to be kept.
        self._known: set[tuple[str, str]] = set()

    @property
    def is_local(self) -> bool:
        return self._local_root is not None

    def put_file(self, key: str, path: Path, *, sha256: str) -> None:
        if self._holds(key, sha256, num_bytes=path.stat().st_size):
            return
        with _translated(key):
            if self._local_root is not None:
                self._put_link(self._local_root, key, path, sha256=sha256)
            elif path.stat().st_size <= _SINGLE_REQUEST_BYTES:
                self._put_whole(key, path, sha256=sha256)
            else:
                self._put_in_parts(key, path, sha256=sha256)
        failpoint("object.put")
        self._remember(key, sha256)

    def get_file(self, key: str, path: Path, *, sha256: str) -> None:
        size = self.size(key)
        if size is None:
            raise ObjectMissing(f"storage holds no object {key}", code="storage_object_missing")
        with _translated(key), appearing(path) as partial:
            if self._local_root is None:
                found = self._download(key, partial, num_bytes=size)
            else:
                link_or_copy(self._local_root / key, partial)
                found = file_sha256(partial)
            if found != sha256:
                self._known.discard((key, sha256))
                raise _damaged(key, found=found, expected=sha256)
        self._remember(key, sha256)

    def open_range(self, key: str, *, start: int, end: int) -> Iterator[bytes]:
        check_key(key)
        position = start
        while position < end:
            length = min(self._piece_bytes, end - position)
            with _translated(key):
                piece = bytes(obstore.get_range(self._store, key, start=position, length=length))
            if len(piece) != length:
                raise ObjectDamaged(
                    f"storage object {key} gave {len(piece)} bytes at {position}, expected {length}",
                    code="storage_object_damaged",
                )
            yield piece
            position += length

    def signed_url(self, key: str, *, seconds: int) -> str | None:
        check_key(key)
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            return None
        try:
            return str(obstore.sign(self._store, "GET", key, timedelta(seconds=seconds)))
        except BaseError as error:
            # Credentials that read need not be credentials that sign.
            log.warning("storage_cannot_sign", error=str(error))
            return None

    def size(self, key: str) -> int | None:
        check_key(key)
        try:
            with _translated(key):
                return int(obstore.head(self._store, key)["size"])
        except ObjectMissing:
            return None

    def create(self, key: str, data: bytes) -> bool:
        check_key(key)
        try:
            with _translated(key):
                obstore.put(self._store, key, data, mode="create")
        except _ObjectThere:
            return False
        return True

    def list_objects(self, prefix: str) -> Iterator[list[StoredObject]]:
        check_key(prefix)
        with _translated(prefix):
            for page in obstore.list(self._store, f"{prefix}/"):
                yield [
                    StoredObject(key=meta["path"], num_bytes=meta["size"], modified_at=meta["last_modified"])
                    for meta in page
                ]

    def delete(self, *keys: str) -> None:
        checked = [check_key(key) for key in keys]
        # A local store stops at the first object that is not there, so each goes on its own.
        for group in [[key] for key in checked] if self.is_local else [checked]:
            try:
                with _translated(", ".join(group)):
                    obstore.delete(self._store, group)
            except ObjectMissing:
                continue

    def _holds(self, key: str, sha256: str, *, num_bytes: int) -> bool:
        """Whether the object is there with these bytes."""
        if self.size(key) != num_bytes:
            return False
        if (key, sha256) in self._known:
            return True
        try:
            is_right = pieces_sha256(self.open_range(key, start=0, end=num_bytes)) == sha256
        except (ObjectDamaged, ObjectMissing):
            return False
        if is_right:
            self._remember(key, sha256)
        return is_right

    def _put_link(self, root: Path, key: str, path: Path, *, sha256: str) -> None:
        # First: the age of a blob, also of one that is only just appearing, counts from when it was stored.
        os.utime(path)
        with appearing_for_good(root / key, below=root) as partial:
            link_or_copy(path, partial)
            check_digest(path, found=file_sha256(partial), expected=sha256)

    def _put_whole(self, key: str, path: Path, *, sha256: str) -> None:
        data = path.read_bytes()
        check_digest(path, found=hashlib.sha256(data).hexdigest(), expected=sha256)
        try:
            obstore.put(self._store, key, data, mode="create", attributes=_ATTRIBUTES)
        except AlreadyExistsError:
            if not self._holds(key, sha256, num_bytes=len(data)):
                obstore.put(self._store, key, data, attributes=_ATTRIBUTES)

    def _put_in_parts(self, key: str, path: Path, *, sha256: str) -> None:
        # No condition here: the last part is sent only when all bytes are those that the key promises.
        pieces = checked_pieces(path, sha256=sha256, piece_bytes=_SINGLE_REQUEST_BYTES)
        obstore.put(
            self._store,
            key,
            pieces,
            use_multipart=True,
            attributes=_ATTRIBUTES,
            chunk_size=_SINGLE_REQUEST_BYTES,
            max_concurrency=_MAX_CONCURRENT_PARTS,
        )

    def _download(self, key: str, path: Path, *, num_bytes: int) -> str:
        """Write the object to a file; returns the sha256 of what was written."""
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for piece in self.open_range(key, start=0, end=num_bytes):
                digest.update(piece)
                file.write(piece)
        return digest.hexdigest()

    def _remember(self, key: str, sha256: str) -> None:
        if len(self._known) >= _MAX_KNOWN_KEYS:
            self._known.clear()
        self._known.add((key, sha256))


class _ObjectThere(InfrastructureError):
    """A conditional put met an object."""


def _damaged(key: str, *, found: str, expected: str) -> ObjectDamaged:
    return ObjectDamaged(
        f"storage object {key} has sha256 {found}, expected {expected}",
        code="storage_object_damaged",
        hint="`fusion doctor --verify-artifacts` names everything that is damaged; restore it from a backup",
    )


@contextmanager
def _translated(key: str) -> Iterator[None]:
    """Turn the errors of obstore and of the disk into ours."""
    try:
        yield
    except FusionError:
        raise
    except FileNotFoundError as error:
        raise ObjectMissing(f"storage holds no object {key}", code="storage_object_missing") from error
    except AlreadyExistsError as error:
        raise _ObjectThere(f"storage holds an object {key}", code="storage_object_there") from error
    except (BaseError, OSError) as error:
        raise InfrastructureError(
            f"storage failed on object {key}: {error}",
            code="storage_unavailable",
            hint="check the storage URL, its credentials and the free space",
        ) from error
