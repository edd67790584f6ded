"""The cache of models that were downloaded with a secret: who uses which of them, and which go first.

`huggingface_hub` lays it out: `models--org--name/` with `blobs/`, and `snapshots/<commit>/` with links to
them. Whoever reads a repository shares its lock, which ends with the process; whoever removes something of it
has the lock alone. So what is in use stays, and nobody finds half a model.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LOCKS: Final = ".readers"
_REPOSITORIES: Final = "models--*"


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedRevision:
    """A repository at a commit; `commit` is None for the rest of a download that did not get that far."""

    repository: Path
    commit: str | None
    last_used: float


def hold(cache: Path, repository: str) -> int:
    """Let nobody remove a repository (`org/name`) until this process ends, or closes the descriptor."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    descriptor = _open_lock(folder)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def note_use(snapshot: Path) -> None:
    """Tell `prune` that the snapshot is of use."""
    os.utime(snapshot)


def list_revisions(caches: Sequence[Path]) -> list[CachedRevision]:
    """What is there, the one unused for longest first."""
    repositories = [folder for cache in caches for folder in cache.glob(_REPOSITORIES) if folder.is_dir()]
    found = [revision for repository in repositories for revision in _revisions_of(repository)]
    return sorted(found, key=lambda revision: (revision.last_used, str(revision.repository)))


def num_bytes_of(caches: Sequence[Path]) -> int:
    """What the cached repositories take, halves of downloads included."""
    return sum(_num_bytes(folder) for cache in caches for folder in cache.glob(_REPOSITORIES))


def prune(
    caches: Sequence[Path], *, max_bytes: int, max_unused_seconds: float, now: float | None = None
) -> int:
    """Remove what was not used for so long, and the least recently used beyond the size; the bytes freed.

    What somebody uses stays, whatever the limits.
    """
    now = time.time() if now is None else now
    before = left = num_bytes_of(caches)
    for revision in list_revisions(caches):
        if left > max_bytes or now - revision.last_used > max_unused_seconds:
            left -= _remove(revision)
    return before - left


def _revisions_of(repository: Path) -> list[CachedRevision]:
    found = []
    with suppress(FileNotFoundError):  # somebody else may be removing it
        for snapshot in (repository / "snapshots").iterdir():
            last_used = snapshot.stat().st_mtime
            found.append(CachedRevision(repository=repository, commit=snapshot.name, last_used=last_used))
    with suppress(FileNotFoundError):
        if not found:
            blobs = [path.stat().st_mtime for path in (repository / "blobs").glob("*")]
            last_used = max(blobs, default=repository.stat().st_mtime)
            found.append(CachedRevision(repository=repository, commit=None, last_used=last_used))
    return found


def _remove(revision: CachedRevision) -> int:
    """The bytes that this freed; none where somebody reads the repository."""
    repository = revision.repository
    with _alone_with(repository) as is_alone:
        if not is_alone:
            return 0
        if revision not in _revisions_of(repository):
            return 0  # it was used, or removed, since
        before = _num_bytes(repository)
        snapshots = repository / "snapshots"
        if revision.commit is not None:
            shutil.rmtree(snapshots / revision.commit, ignore_errors=True)
        if not any(snapshots.glob("*")):
            shutil.rmtree(repository, ignore_errors=True)
        else:
            _remove_blobs(repository, but=_blobs_of(snapshots))
        return before - _num_bytes(repository)


def _remove_blobs(repository: Path, *, but: set[Path]) -> None:
    """Nobody loads anything at the moment, so halves of downloads are nobody's either."""
    for blob in (repository / "blobs").glob("*"):
        if blob.resolve() not in but:
            blob.unlink(missing_ok=True)


def _blobs_of(snapshots: Path) -> set[Path]:
    return {path.resolve() for path in snapshots.rglob("*") if path.is_symlink()}


def _num_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink():
                total += path.stat().st_size
    return total


@contextmanager
def _alone_with(repository: Path) -> Iterator[bool]:
    """Keep readers out; False when there are some."""
    descriptor = _open_lock(repository)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _open_lock(repository: Path) -> int:
    # Beside the repository, and never removed: a lock that is unlinked keeps nobody out.
    folder = repository.parent / _LOCKS
    folder.mkdir(parents=True, exist_ok=True)
    return os.open(folder / repository.name, os.O_RDWR | os.O_CREAT, 0o600)
