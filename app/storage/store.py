"""The object store protocol and the keys it accepts. Objects are immutable: written once, read, deleted."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from fusion.errors import InfrastructureError

MAX_KEY_BYTES = 1024
BLOBS = "blobs"


class ObjectMissing(InfrastructureError):
    """The store holds nothing under this key."""


class ObjectDamaged(InfrastructureError):
    """The store holds other bytes under this key than those that were stored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject:
    """What a listing tells of an object. `modified_at` is by the clock of the store."""

    key: str
    num_bytes: int
    modified_at: datetime


class ObjectStore(Protocol):
    """Immutable objects by key. Every call may raise `InfrastructureError`."""

    @property
    def is_local(self) -> bool:
        """Whether objects are files of this machine, which are linked instead of copied."""

    def put_file(self, key: str, path: Path, *, sha256: str) -> None:
        """Store a file under `key`, complete or not at all, digested on the way: it is read once.

        An object that is already there is kept when its bytes are these, and replaced when they are not. A
        local store links the file, which makes it read-only: hand over only what nobody writes again.

        Raises:
            FileDamaged: the file's bytes are not those of `sha256`; nothing was stored.
        """

    def get_file(self, key: str, path: Path, *, sha256: str) -> None:
        """Make the object appear at `path`, complete or not at all. It may be a link: never write to it.

        Raises:
            ObjectMissing: there is none.
            ObjectDamaged: its bytes are not those of `sha256`; nothing appeared.
        """

    def open_range(self, key: str, *, start: int, end: int) -> Iterator[bytes]:
        """Bytes `start` up to and without `end`, in pieces, with constant memory.

        Raises:
            ObjectMissing: on the first piece.
        """

    def signed_url(self, key: str, *, seconds: int) -> str | None:
        """A URL at which anybody may GET the object for a while; None where the store makes none."""

    def size(self, key: str) -> int | None:
        """Size in bytes, `None` where there is no such object."""

    def create(self, key: str, data: bytes) -> bool:
        """Store a few bytes unless there is an object, in one step; False when there is one."""

    def list_objects(self, prefix: str) -> Iterator[list[StoredObject]]:
        """Every object below a folder of keys, in pages and in no order."""

    def delete(self, *keys: str) -> None:
        """Remove objects; one that is not there is no error."""


def blob_key(*, project_id: str, sha256: str) -> str:
    """Key of a blob: equal bytes of one project are stored once, projects share nothing."""
    return f"{BLOBS}/{project_id}/{sha256[:2]}/{sha256}"


def check_key(key: str) -> str:
    """Refuse a key that could leave the store's folder or mean two objects on two systems.

    Raises:
        ValueError: keys are built by this service, so a bad one is our own mistake.
    """
    segments = key.split("/")
    hostile = any(segment in ("", ".", "..") for segment in segments)
    if hostile or "\\" in key or any(ord(char) < 32 or ord(char) == 127 for char in key):
        raise ValueError(
            f"not a storage key: {key!r}; expected relative segments without . or .. or control codes"
        )
    if len(key.encode()) > MAX_KEY_BYTES:
        raise ValueError(f"storage key of {len(key.encode())} bytes, at most {MAX_KEY_BYTES}")
    return key
