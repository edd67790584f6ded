"""Which bytes of an unfinished file are already there, remembered beside it.

`model.safetensors.partial` holds the bytes, `model.safetensors.partial.json` how far each range got. The
journal may lag behind the bytes, never the other way round; the digest at the end is what counts.
"""

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PARTIAL_SUFFIX = ".partial"
JOURNAL_SUFFIX = ".partial.json"
RANGE_BYTES = 64 << 20
JOURNAL_EVERY_BYTES = 8 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ByteRange:
    """Bytes `start` up to, not including, `end`."""

    start: int
    end: int


class PartialFile:
    """A file of known size and digest that is filled range by range, by several threads."""

    def __init__(self, path: Path, *, size: int, sha256: str, range_bytes: int = RANGE_BYTES) -> None:
        self.path = path
        self.size = size
        self.sha256 = sha256
        self.range_bytes = range_bytes
        self.ranges = [
            ByteRange(start=start, end=min(start + range_bytes, size))
            for start in range(0, size, range_bytes)
        ]
        self._partial = path.with_name(path.name + PARTIAL_SUFFIX)
        self._journal = path.with_name(path.name + JOURNAL_SUFFIX)
        self._lock = threading.Lock()
        self._unsaved_bytes = 0
        self._reached = self._read_journal()
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._partial, os.O_RDWR | os.O_CREAT, 0o644)
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            self._save()
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def num_bytes_present(self) -> int:
        return sum(self._reached[part.start] - part.start for part in self.ranges)

    def reached(self, part: ByteRange) -> int:
        """Offset of the first byte of `part` that is still missing; `part.end` when none is."""
        return self._reached[part.start]

    def write(self, part: ByteRange, data: bytes) -> None:
        """Append bytes to a range."""
        assert self._descriptor is not None, "write inside the with block"
        offset = self._reached[part.start]
        assert offset + len(data) <= part.end, "more bytes than the range holds"
        os.pwrite(self._descriptor, data, offset)
        with self._lock:
            self._reached[part.start] = offset + len(data)
            self._unsaved_bytes += len(data)
            due = self._unsaved_bytes >= JOURNAL_EVERY_BYTES
        if due:
            self._save()

    def finish(self) -> None:
        """Give the complete file its name."""
        self._partial.replace(self.path)
        self._journal.unlink(missing_ok=True)

    @property
    def partial_path(self) -> Path:
        return self._partial

    def discard(self) -> None:
        """Forget all bytes."""
        self._partial.unlink(missing_ok=True)
        self._journal.unlink(missing_ok=True)
        self._reached = {part.start: part.start for part in self.ranges}

    def _read_journal(self) -> dict[int, int]:
        """How far each range got last time; nothing when the file or the cut is another one."""
        fresh = {part.start: part.start for part in self.ranges}
        if not (self._journal.is_file() and self._partial.is_file()):
            return fresh
        try:
            found = json.loads(self._journal.read_text(encoding="utf-8"))
        except ValueError:  # torn by a power cut: start over
            return fresh
        if (found.get("sha256"), found.get("range_bytes")) != (self.sha256, self.range_bytes):
            return fresh
        return {
            part.start: max(part.start, min(part.end, int(found["reached"].get(str(part.start), part.start))))
            for part in self.ranges
        }

    def _save(self) -> None:
        assert self._descriptor is not None
        with self._lock:
            reached = {str(start): offset for start, offset in self._reached.items()}
            state = {"sha256": self.sha256, "range_bytes": self.range_bytes, "reached": reached}
            # Bytes before journal: one that promises more than the disk holds costs a whole download.
            os.fsync(self._descriptor)
            temporary = self._journal.with_name(self._journal.name + ".new")
            temporary.write_text(json.dumps(state), encoding="utf-8")
            temporary.replace(self._journal)
            self._unsaved_bytes = 0
