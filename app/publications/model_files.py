"""The files of a model as those who send them read them: counted, checked, and never copied first."""

import hashlib
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from app.artifacts.manifest import MANIFEST_NAME
from app.db.models import ArtifactFile
from app.storage.store import ObjectDamaged, ObjectStore, blob_key

_BUFFER_BYTES: Final = 1 << 20
_WEIGHTS: Final = (".safetensors", ".safetensors.index.json")


class ModelFiles:
    """What is to be sent. May be read by several threads at once."""

    def __init__(
        self, store: ObjectStore, files: Sequence[ArtifactFile], *, on_read: Callable[[int], None]
    ) -> None:
        """`on_read` is told how many more bytes were read, before they are given away; it may raise."""
        # The manifest comes last: where it is, everything is.
        self.all = sorted(files, key=lambda file: (file.path == MANIFEST_NAME, file.path))
        self._store = store
        self._on_read = on_read
        self._lock = threading.Lock()

    @property
    def names(self) -> frozenset[str]:
        return frozenset(file.path for file in self.all)

    @property
    def manifest_file(self) -> ArtifactFile:
        return self.all[-1]

    def content(self, file: ArtifactFile) -> bytes:
        """All bytes of a small file.

        Raises:
            ObjectDamaged: they are not those that were stored.
        """
        return b"".join(self.pieces(file))

    def head(self, file: ArtifactFile, num_bytes: int) -> bytes:
        """The beginning of a file, not counted as sent."""
        end = min(num_bytes, file.num_bytes)
        return b"".join(self._store.open_range(_key(file), start=0, end=end))

    def pieces(self, file: ArtifactFile) -> Iterator[bytes]:
        """The bytes of a file.

        Raises:
            ObjectDamaged: at the end, when they were not those that were stored.
        """
        yield from _checked(file, self._counted(file, start=0))

    def open(self, file: ArtifactFile) -> io.BufferedReader:
        """A file to read and to seek in, for libraries that want one.

        Whoever reads it from its beginning to its end, in whatever pieces, meets `ObjectDamaged` there when
        the bytes were not those that were stored.
        """
        return io.BufferedReader(_StoredFile(file, self._counted), buffer_size=_BUFFER_BYTES)

    def note(self, num_bytes: int = 0) -> None:
        """Tell of bytes on their way; raises when there is no use in going on."""
        with self._lock:
            self._on_read(num_bytes)

    def _counted(self, file: ArtifactFile, start: int) -> Iterator[bytes]:
        for piece in self._store.open_range(_key(file), start=start, end=file.num_bytes):
            self.note(len(piece))
            yield piece


class _StoredFile(io.RawIOBase):
    """A stored file, read from wherever it was last sought."""

    def __init__(self, file: ArtifactFile, read_from: Callable[[ArtifactFile, int], Iterator[bytes]]) -> None:
        super().__init__()
        self._file = file
        self._read_from = read_from
        self._position = 0
        self._pieces: Iterator[bytes] | None = None
        self._rest = memoryview(b"")
        self._digest = hashlib.sha256()
        self._num_digested = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.num_bytes}[whence]
        if base + offset != self._position:
            self._position = max(0, base + offset)
            self._pieces, self._rest = None, memoryview(b"")
        return self._position

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        if not self._rest:
            if self._pieces is None:
                self._pieces = self._read_from(self._file, self._position)
            self._rest = memoryview(next(self._pieces, b""))
        num_bytes = min(len(buffer), len(self._rest))
        buffer[:num_bytes] = self._rest[:num_bytes]
        self._check(self._rest[:num_bytes])
        self._rest = self._rest[num_bytes:]
        self._position += num_bytes
        return num_bytes

    def _check(self, data: memoryview) -> None:
        """Digest what was not read before, as long as nothing was left out."""
        num_known = self._num_digested - self._position
        if 0 <= num_known < len(data):
            self._digest.update(data[num_known:])
            self._num_digested += len(data) - num_known
            if self._num_digested == self._file.num_bytes:
                _check(self._file, self._digest.hexdigest())


def is_weights(name: str) -> bool:
    """Whether a loader would take a file of this name for weights of the model beside it."""
    return "/" not in name and name.endswith(_WEIGHTS)


def _checked(file: ArtifactFile, pieces: Iterator[bytes]) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        yield piece
    _check(file, digest.hexdigest())


def _check(file: ArtifactFile, found: str) -> None:
    if found != file.sha256:
        raise ObjectDamaged(
            f"{file.path} has sha256 {found}, expected {file.sha256}", code="storage_object_damaged"
        )


def _key(file: ArtifactFile) -> str:
    return blob_key(project_id=file.project_id, sha256=file.sha256)
