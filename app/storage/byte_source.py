"""Bytes of known size that can be read from anywhere in them: a file on the disk, or a stored object."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from app.storage.store import ObjectStore

_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ByteSource:
    """`open_range(start, end)` gives the bytes in between, in pieces and with constant memory."""

    size: int
    open_range: Callable[[int, int], Iterator[bytes]]

    @classmethod
    def on_disk(cls, path: Path) -> Self:
        return cls(size=path.stat().st_size, open_range=lambda start, end: _range_of(path, start, end))

    @classmethod
    def in_store(cls, store: ObjectStore, key: str, *, size: int) -> Self:
        return cls(size=size, open_range=lambda start, end: store.open_range(key, start=start, end=end))

    def pieces(self) -> Iterator[bytes]:
        """All of it."""
        return self.open_range(0, self.size)

    def read(self, start: int, end: int) -> bytes:
        """A few bytes of it; fewer where it ends before `end`."""
        return b"".join(self.open_range(start, min(end, self.size)))


def _range_of(path: Path, start: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < end and (piece := file.read(min(_PIECE_BYTES, end - start))):
            start += len(piece)
            yield piece
