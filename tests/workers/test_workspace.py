"""A workspace belongs to one attempt, and a dead worker's is cleaned up with what still runs in it."""

import subprocess
import sys
from pathlib import Path

import pytest

from workers.workspace import reserve, sweep

HOLD = """
import os, sys, time
from pathlib import Path
from workers.workspace import reserve
with reserve(Path(sys.argv[1]), step_id="step-1", attempt=1) as workspace:
    import subprocess
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    workspace.remember_child(child.pid)
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_a_workspace_starts_empty_and_ends_with_its_attempt(tmp_path: Path) -> None:
    left = tmp_path / "step-1" / "1" / "out" / "old"
    left.mkdir(parents=True)

    with reserve(tmp_path, step_id="step-1", attempt=1) as workspace:
        found = list(workspace.out.iterdir())

    assert found == []
    assert list(tmp_path.glob("step-*")) == []


def test_a_workspace_is_removed_also_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), reserve(tmp_path, step_id="step-1", attempt=1):
        raise RuntimeError

    assert list(tmp_path.glob("step-*")) == []


def test_sweeping_leaves_what_is_in_use(tmp_path: Path) -> None:
    with reserve(tmp_path, step_id="step-1", attempt=1) as workspace:
        assert sweep(tmp_path) == []
        assert workspace.out.is_dir()


def test_sweeping_removes_what_a_killed_worker_left_and_its_child(tmp_path: Path) -> None:
    worker = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    child = int(worker.stdout.readline())
    worker.kill()
    worker.wait()
    worker.stdout.close()

    swept = sweep(tmp_path)

    assert swept == [tmp_path / "step-1" / "1"]
    assert not (tmp_path / "step-1").exists()
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
