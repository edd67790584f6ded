"""Files that appear in a local store, or come out of it, complete or not at all."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusion.failpoints import failpoint

_READ_ONLY = 0o444
# Filesystems that cannot link say so in different words.
_CANNOT_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES})


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` that takes its place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        # rename(2) does nothing when both names are links to one file, so the partial may still be there.
        partial.unlink(missing_ok=True)


@contextmanager
def appearing_for_good(path: Path, *, below: Path) -> Iterator[Path]:
    """`appearing`, and it survives a power cut: the file, and every folder from it up to `below`."""
    with appearing(path) as partial:
        yield partial
        sync(partial)
        failpoint("blob.written")
    failpoint("blob.renamed")
    # Also those that were there: whoever made one at this very moment may not have got so far.
    for folder in path.parents:
        sync(folder)
        if folder == below:
            break


def make_folder_for_good(path: Path, *, mode: int) -> None:
    """Make a folder, with its parents, that survives a power cut; one that is there stays as it is."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True, mode=mode)
    for folder in missing:
        sync(folder.parent)


def link_or_copy(source: Path, destination: Path) -> None:
    """Make `destination` the bytes of `source`, read-only."""
    try:
        os.link(source, destination)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        shutil.copyfile(source, destination)
    destination.chmod(_READ_ONLY)


def sync(path: Path) -> None:
    """Force a file's bytes, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
