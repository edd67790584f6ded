"""Environments of their own, for clients and servers of others that do not go into that of the tests.

They are made once, below the folder `build`, from whatever index pip is set up with.
"""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

_FOLDER = Path(__file__).parents[2] / "build" / "environments"


def environment(requirement: str) -> Path:
    """Interpreter of an environment that has what is required; it is made when it is not there."""
    folder = _FOLDER / requirement.replace("==", "-")
    ready = folder / ".ready"
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with (folder.with_suffix(folder.suffix + ".lock")).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            _run(sys.executable, "-m", "venv", "--clear", folder)
            pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--no-compile"]
            _run(*pip, "--disable-pip-version-check", requirement)
            ready.touch()
    return folder / "bin" / "python"


def _run(*words: object) -> None:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, words))} failed:\n{done.stderr}", pytrace=False)
