"""A folder per attempt, removed when the attempt ends; what dead workers left behind is swept away.

The folder is locked by the worker that uses it. A lock that can be taken belongs to a worker that is gone,
and then its child, if one survived, is killed before the folder is removed.
"""

import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fusion.failpoints import failpoint
from workers.child_process import members_of_session, start_ticks

_LOCK_NAME = ".lock"
_CHILD_NAME = "child.json"
_SWEEP_KILL_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Workspace:
    """Where one attempt works. Nothing in it is shared with another attempt."""

    root: Path

    @property
    def inputs(self) -> Path:
        return self.root / "inputs"

    @property
    def out(self) -> Path:
        """Output folder of the stage."""
        return self.root / "out"

    @property
    def request(self) -> Path:
        return self.root / "request.json"

    @property
    def log_folder(self) -> Path:
        return self.root / "log"

    @property
    def log(self) -> Path:
        return self.log_folder / "log.txt"

    def remember_child(self, pid: int) -> None:
        """Note the child, so that whoever sweeps this folder can find it."""
        text = json.dumps({"pid": pid, "start_ticks": start_ticks(pid), "boot_id": _boot_id()})
        (self.root / _CHILD_NAME).write_text(text, encoding="utf-8")


@contextmanager
def reserve(workspaces: Path, *, step_id: str, attempt: int) -> Iterator[Workspace]:
    """An empty, locked folder for one attempt."""
    root = workspaces / step_id / str(attempt)
    with ExitStack() as held:
        with _nobody_sweeping(workspaces):
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir(parents=True)
            locked = held.enter_context(_lock(root / _LOCK_NAME))
        assert locked, f"attempt {attempt} of {step_id} is being worked on twice"
        workspace = Workspace(root=root)
        failpoint("workspace.reserved")
        for folder in (workspace.inputs, workspace.out, workspace.log_folder):
            folder.mkdir()
        try:
            yield workspace
        finally:
            _remove(root)


def sweep(workspaces: Path) -> list[Path]:
    """Remove the folders of workers that are gone, and kill what still runs in them."""
    swept = []
    with _nobody_sweeping(workspaces):
        for root in sorted(workspaces.glob("step-*/*")):
            # The owner of a folder that is in use may remove it at any moment.
            with suppress(FileNotFoundError), _lock(root / _LOCK_NAME) as locked:
                if locked:
                    _kill_remembered_child(root)
                    failpoint("workspace.abandoned")
                    _remove(root)
                    swept.append(root)
    return swept


@contextmanager
def _nobody_sweeping(workspaces: Path) -> Iterator[None]:
    """A folder that was made and is not locked yet looks like one of a dead worker, so only one may look."""
    workspaces.mkdir(parents=True, exist_ok=True)
    with _lock(workspaces / _LOCK_NAME, wait=True):
        yield


@contextmanager
def _lock(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Try to hold a lock; the kernel lets go of it when the process ends, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def _kill_remembered_child(root: Path) -> None:
    try:
        child = json.loads((root / _CHILD_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return
    pid = int(child["pid"])
    leader_ticks = start_ticks(pid)
    if child["boot_id"] != _boot_id() or leader_ticks not in (None, child["start_ticks"]):
        return  # the number belongs to another process now
    deadline = time.monotonic() + _SWEEP_KILL_SECONDS
    while (members := members_of_session(pid)) and time.monotonic() < deadline:
        for member in members:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(member, signal.SIGKILL)
        time.sleep(0.02)


def _boot_id() -> str:
    """Changes with every start of the machine; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _remove(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    with suppress(OSError):  # other attempts of the step are still there
        root.parent.rmdir()
