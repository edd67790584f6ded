"""A stage that the kernel killed for its memory is told from one that somebody killed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.conftest import CHILDREN
from workers.oom_kills import count_oom_kills

LIMIT_BYTES = 400 << 20
SUPERVISE = f"""
import json, os, sys
from pathlib import Path
from workers.child_process import started
from workers.progress import ProgressRecorder
from workers.supervision import Patience, supervise
from app.jobs.service import ClaimedStep
group, folder, behaviour = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
(group / "cgroup.procs").write_text(str(os.getpid()))
(folder / "request.json").write_text("{{}}")
step = ClaimedStep(
    step_id="step-1", job_id="job-1", project_id="proj-1", attempt=1, name="prepare", stage="prepare",
    subject=None, resource="cpu", spec={{}}, inputs={{}}, file_ids=[], model_ids=[],
    checkpoint_artifact_ids={{}}, num_batch_halvings=0,
)
command = [sys.executable, {str(CHILDREN)!r}, behaviour]
with started(command, request=folder / "request.json", log=folder / "log.txt") as child:
    outcome = supervise(
        child,
        ProgressRecorder(None, step, publish_part=print),
        wanted=lambda: None,
        patience=Patience(stall_seconds=100, grace_seconds=1),
    )
print(json.dumps([type(outcome).__name__, outcome.error["code"], outcome.error["category"]]))
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def counted(root: Path) -> int | None:
    return count_oom_kills(cgroups=root / "cgroup", proc=root / "proc")


def test_the_group_s_own_count_is_read_in_version_2(tmp_path: Path) -> None:
    write(tmp_path / "proc" / "self" / "cgroup", "0::/pod/worker\n")
    write(tmp_path / "proc" / "vmstat", "oom_kill 9\n")
    write(tmp_path / "cgroup" / "pod" / "worker" / "memory.events", "high 0\noom 5\noom_kill 3\n")

    assert counted(tmp_path) == 3


def test_a_container_s_group_is_the_root_of_what_it_sees(tmp_path: Path) -> None:
    write(tmp_path / "proc" / "self" / "cgroup", "0::/docker/abc\n")
    write(tmp_path / "cgroup" / "memory.events", "oom_kill 2\n")

    assert counted(tmp_path) == 2


def test_version_1_counts_too(tmp_path: Path) -> None:
    write(tmp_path / "proc" / "self" / "cgroup", "5:cpuset:/other\n4:memory:/box\n0::/\n")
    write(
        tmp_path / "cgroup" / "memory" / "box" / "memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
    )

    assert counted(tmp_path) == 4


def test_without_a_group_the_machine_s_count_is_read(tmp_path: Path) -> None:
    write(tmp_path / "proc" / "self" / "cgroup", "0::/\n")
    write(tmp_path / "proc" / "vmstat", "pgfault 12\noom_kill 7\n")

    assert counted(tmp_path) == 7


def test_where_nobody_counts_there_is_no_count(tmp_path: Path) -> None:
    assert counted(tmp_path) is None


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A memory cgroup below our own, with little memory."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    own = {controllers: path.lstrip("/") for _, controllers, path in lines}
    if "memory" in own:
        group, limit = Path("/sys/fs/cgroup/memory") / own["memory"], "memory.limit_in_bytes"
    else:
        group, limit = Path("/sys/fs/cgroup") / own[""], "memory.max"
    group /= f"fusion-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(LIMIT_BYTES))
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield group
    group.rmdir()


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        ("glutton", ["Failed", "out_of_memory", "capacity"]),
        ("killed", ["Lost", "stage_killed", "infrastructure"]),
    ],
)
def test_the_kernel_is_believed(
    small_group: Path, tmp_path: Path, behaviour: str, expected: list[str]
) -> None:
    command = [sys.executable, "-c", SUPERVISE, str(small_group), str(tmp_path), behaviour]

    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout

    assert json.loads(told) == expected
