"""Failpoints do nothing until a test arms one, and then exactly once."""

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fusion.failpoints import failpoint


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FAILPOINTS_DIR", str(tmp_path))
    return tmp_path


def test_without_the_variable_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAILPOINTS_DIR", raising=False)
    (tmp_path / "disk").write_text("raise ENOSPC")

    failpoint("disk")


def test_an_armed_place_fires_once(folder: Path) -> None:
    (folder / "disk").write_text("raise ENOSPC")

    with pytest.raises(OSError) as caught:
        failpoint("disk")
    failpoint("disk")
    failpoint("elsewhere")

    assert caught.value.errno == errno.ENOSPC


def test_passes_that_are_let_go(folder: Path) -> None:
    (folder / "disk").write_text("raise EIO after 2")

    failpoint("disk")
    failpoint("disk")
    with pytest.raises(OSError):
        failpoint("disk")


def test_a_process_dies_where_it_stands(folder: Path) -> None:
    (folder / "here").write_text("kill")
    program = "from fusion.failpoints import failpoint; failpoint('here'); print('still here')"

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)

    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, b"")


def test_an_unknown_action_is_a_mistake_of_the_test(folder: Path) -> None:
    (folder / "here").write_text("explode")

    with pytest.raises(ValueError, match="explode"):
        failpoint("here")
