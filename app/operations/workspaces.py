"""Folders in which attempts of this machine work, and what becomes of those whose worker is gone.

A folder is locked by the worker that uses it, and the lock says where that worker runs. A lock that can be
taken belongs to a worker that is gone. Then what still runs of its child is killed and the folder is removed.
Where it is certain that nothing of the attempt runs any more, its step goes back to the queue at once: nobody
needs to wait until a dead worker's lease has run out.
"""

import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from app.db.session import in_transaction
from app.jobs import service as jobs
from app.jobs.budgets import worker_died
from app.logs import get_logger
from app.operations.processes import leaders_given, members_of_session, own_place, start_ticks
from fusion.failpoints import failpoint

LOCK_NAME: Final = ".lock"
REQUEST_NAME: Final = "request.json"
"""What every child is started with, so that it is found also when nobody noted its id."""
_CHILD_NAME: Final = "child.json"
_KILL_SECONDS: Final = 5.0
_MAX_PLACE_BYTES: Final = 1000

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Abandoned:
    """A folder whose worker is gone. `is_over`: nothing of the attempt runs any more, for certain."""

    root: Path
    num_bytes: int
    is_over: bool

    @property
    def step_id(self) -> str:
        return self.root.parent.name

    @property
    def attempt(self) -> int:
        return int(self.root.name)


def sweep_workspaces(engine: Engine, workspaces: Path, *, dry_run: bool = False) -> list[Abandoned]:
    """Remove the folders of workers that are gone, end what still runs there, and give their steps back."""
    if not os.access(workspaces, os.W_OK):
        return []  # no worker has been here, or another user's
    found = _look_through(workspaces, and_remove=not dry_run)
    for abandoned in found:
        if abandoned.is_over:
            _give_back(engine, abandoned)
    return found


@contextmanager
def nobody_sweeping(workspaces: Path) -> Iterator[None]:
    """A folder that was made and is not locked yet looks like one of a dead worker, so only one may look."""
    workspaces.mkdir(parents=True, exist_ok=True)
    with _locked(workspaces / LOCK_NAME, create=True, wait=True):
        yield


@contextmanager
def occupied(root: Path) -> Iterator[bool]:
    """Hold a folder as its user; False when somebody else does."""
    with _locked(root / LOCK_NAME, create=True) as lock:
        if lock is not None:
            os.ftruncate(lock, 0)
            os.write(lock, own_place().encode())
        yield lock is not None


def remember_child(root: Path, pid: int) -> None:
    """Note the child that works in a folder, so that whoever sweeps it can find its family."""
    text = json.dumps({"pid": pid, "start_ticks": start_ticks(pid)})
    (root / _CHILD_NAME).write_text(text, encoding="utf-8")


def remove(root: Path) -> None:
    """Remove a folder. Its lock goes last: as long as anything is there, it tells whether it is in use."""
    for path in root.iterdir() if root.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK_NAME:
            with suppress(OSError):
                path.unlink()
    shutil.rmtree(root, ignore_errors=True)
    with suppress(OSError):  # other attempts of the step are still there
        root.parent.rmdir()


def _look_through(workspaces: Path, *, and_remove: bool) -> list[Abandoned]:
    with nobody_sweeping(workspaces):
        looked_at = [
            _look_at(root, and_remove=and_remove) for root in sorted(workspaces.glob("step-*/[0-9]*"))
        ]
    return [abandoned for abandoned in looked_at if abandoned is not None]


def _look_at(root: Path, *, and_remove: bool) -> Abandoned | None:
    """What there is to say of a folder; None when it is in use."""
    try:
        with _locked(root / LOCK_NAME) as lock:
            return None if lock is None else _take_over(root, lock, and_remove=and_remove)
    except FileNotFoundError:
        # Whoever used it has ended well and removes it, or did not get to the end of that.
        if and_remove:
            remove(root)
        return None


def _take_over(root: Path, lock: int, *, and_remove: bool) -> Abandoned | None:
    """Clear a folder that nobody uses; None when something in it cannot be ended."""
    num_bytes = _num_bytes(root)
    if not and_remove:
        return Abandoned(root=root, num_bytes=num_bytes, is_over=False)
    # Processes elsewhere cannot be seen from here, and nothing is certain.
    is_here = own_place() != "" and os.read(lock, _MAX_PLACE_BYTES).decode() == own_place()
    if is_here and not _end_processes(root):
        log.warning("stage_unkillable", workspace=str(root))
        return None
    failpoint("workspace.abandoned")
    remove(root)
    return Abandoned(root=root, num_bytes=num_bytes, is_over=is_here)


def _give_back(engine: Engine, abandoned: Abandoned) -> None:
    fence: dict[str, Any] = {"step_id": abandoned.step_id, "attempt": abandoned.attempt}
    try:
        if in_transaction(engine, jobs.lose_step, **fence, error=worker_died()):
            log.info("lease_ended", **fence)
    except DBAPIError as error:
        log.warning("lease_left_to_run_out", error=str(error), **fence)


def _end_processes(root: Path) -> bool:
    """Kill the child that works in a folder, with its family. Returns whether none of it is left."""
    deadline = time.monotonic() + _KILL_SECONDS
    while members := _processes_of(root):
        if time.monotonic() > deadline:
            return False
        for member in members:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(member, signal.SIGKILL)
        time.sleep(0.02)
    return True


def _processes_of(root: Path) -> set[int]:
    leaders = set(leaders_given(str(root / REQUEST_NAME)))
    with suppress(FileNotFoundError, ValueError):
        child = json.loads((root / _CHILD_NAME).read_text(encoding="utf-8"))
        # With other ticks the id is another process's by now.
        if start_ticks(child["pid"]) in (None, child["start_ticks"]):
            leaders.add(child["pid"])
    return {member for leader in leaders for member in members_of_session(leader)}


def _num_bytes(root: Path) -> int:
    """What removing the folder frees: files that are linked from elsewhere stay."""
    files = [path.lstat() for path in root.rglob("*") if not path.is_dir()]
    return sum(file.st_size for file in files if file.st_nlink == 1)


@contextmanager
def _locked(path: Path, *, create: bool = False, wait: bool = False) -> Iterator[int | None]:
    """Try to hold a lock; the kernel lets go of it when the process ends, however it ends.

    Raises:
        FileNotFoundError: there is none, and none is to be made.
    """
    descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        # One that was removed since it was opened is nobody's lock any more.
        yield descriptor if os.fstat(descriptor).st_nlink > 0 else None
    finally:
        os.close(descriptor)
