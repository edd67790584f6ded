"""Folders of the tests' own servers. What a killed run leaves behind, the next one removes.

A folder names the process that made it and is locked by it; the kernel lets go of the lock when that process
ends, however it ends. Only a folder whose maker is gone by both signs is touched.
"""

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_ROOT = Path("/tmp")
_NAME = re.compile(r"fusion-(?:postgres|redis|s3)-(\d+)-\w+")
_LOCK_NAME = ".lock"
_KILL_SECONDS = 10.0


@contextmanager
def server_folder(kind: str) -> Iterator[Path]:
    """A new folder for one server, removed at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix=f"fusion-{kind}-{os.getpid()}-", dir=_ROOT))
    descriptor = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def sweep() -> list[Path]:
    """Remove the folders whose makers are gone, and end the servers that still run in them."""
    swept = []
    for folder in sorted(_ROOT.glob("fusion-*-*-*")):
        found = _NAME.fullmatch(folder.name)
        if found is None or psutil.pid_exists(int(found[1])):
            continue
        # Another session may sweep the same folder, or it may be another user's.
        with suppress(OSError), _unlocked(folder / _LOCK_NAME):
            for process in _servers_in(folder):
                process.kill()
            _wait_until_none_runs_in(folder)
            shutil.rmtree(folder, ignore_errors=True)
            swept.append(folder)
    return swept


@contextmanager
def _unlocked(path: Path) -> Iterator[None]:
    """Hold a lock that nobody holds.

    Raises:
        OSError: there is none, or somebody holds it.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _servers_in(folder: Path) -> list[psutil.Process]:
    """Processes that were started in a folder and still run; a zombie has neither folder nor command line."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()) == folder or any(str(folder) in word for word in process.cmdline()):
                found.append(process)
    return found


def _wait_until_none_runs_in(folder: Path) -> None:
    deadline = time.monotonic() + _KILL_SECONDS
    while _servers_in(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
