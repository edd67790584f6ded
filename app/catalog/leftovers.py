"""Halves of uploads whose process was killed; a running upload touches its file all the time."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from app.artifacts.garbage import Garbage
from app.catalog.receiving import UPLOAD_PREFIX


def sweep_uploads(folder: Path, *, grace_seconds: float, dry_run: bool = False) -> Garbage:
    """Remove files of uploads that have not grown for the grace period."""
    num = num_bytes = 0
    for path, size in _old_files(folder, older_than=time.time() - grace_seconds):
        num, num_bytes = num + 1, num_bytes + size
        if not dry_run:
            path.unlink(missing_ok=True)
    return Garbage(kind="half of an upload", num=num, num_bytes=num_bytes)


def _old_files(folder: Path, *, older_than: float) -> Iterator[tuple[Path, int]]:
    for path in sorted(folder.glob(f"{UPLOAD_PREFIX}*")):
        with suppress(FileNotFoundError):  # its own process may remove it at any moment
            status = path.stat()
            if status.st_mtime <= older_than:
                yield path, status.st_size
