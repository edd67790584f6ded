"""A workspace belongs to one attempt; a dead worker's is cleaned up, and its step given back at once."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine, create_engine

from app.db.session import in_transaction
from app.jobs import service as jobs
from app.operations.garbage import collect_garbage
from app.operations.workspaces import LOCK_NAME, sweep_workspaces
from tests.workers.conftest import Workshop
from workers.worker import create_worker
from workers.workspace import reserve

HOLD = """
import subprocess, sys, time
from pathlib import Path
from workers.workspace import reserve
folder, step_id, remember = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "remember"
with reserve(folder, step_id=step_id, attempt=1) as workspace:
    (workspace.out / "data").write_bytes(bytes(1000))
    sleep = [sys.executable, "-c", "import time; time.sleep(120)", str(workspace.request)]
    child = subprocess.Popen(sleep, start_new_session=True)
    if remember:
        workspace.remember_child(child.pid)
    print(child.pid, flush=True)
    time.sleep(120)
"""


@dataclass(frozen=True)
class Holder:
    """A worker's process that has an attempt under way, and its child."""

    process: subprocess.Popen[str]
    child: int

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def hold() -> Iterator[Callable[..., Holder]]:
    """Starts workers that hold attempt 1 of a step."""
    holders: list[Holder] = []

    def start(workspaces: Path, step_id: str = "step-1", *, remember: bool = True) -> Holder:
        words = [str(workspaces), step_id, "remember" if remember else "forget"]
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, *words], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert process.stdout is not None
        holders.append(Holder(process, int(process.stdout.readline())))
        return holders[-1]

    yield start
    for holder in holders:
        holder.kill()
        if holder.process.stdout is not None:
            holder.process.stdout.close()
        if runs(holder.child):
            os.kill(holder.child, signal.SIGKILL)


@pytest.fixture
def no_database() -> Engine:
    """For folders of which nothing is known but that they are there."""
    return create_engine("sqlite:////nowhere/at/all.db")


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


def test_sweeping_leaves_what_is_in_use(tmp_path: Path, no_database: Engine) -> None:
    with reserve(tmp_path, step_id="step-1", attempt=1) as workspace:
        assert sweep_workspaces(no_database, tmp_path) == []
        assert workspace.out.is_dir()


@pytest.mark.parametrize("remember", [True, False], ids=["noted", "not noted yet"])
def test_sweeping_removes_what_a_killed_worker_left_and_its_child(
    tmp_path: Path, no_database: Engine, hold: Callable[..., Holder], remember: bool
) -> None:
    holder = hold(tmp_path, remember=remember)
    holder.kill()

    (swept,) = sweep_workspaces(no_database, tmp_path)

    assert (swept.root, swept.is_over) == (tmp_path / "step-1" / "1", True)
    assert swept.num_bytes >= 1000
    assert not (tmp_path / "step-1").exists()
    assert not runs(holder.child)


def test_a_folder_whose_removal_was_cut_off_is_removed_and_says_nothing(
    tmp_path: Path, no_database: Engine
) -> None:
    (tmp_path / "step-1" / "1" / "out").mkdir(parents=True)

    assert sweep_workspaces(no_database, tmp_path) == []
    assert list(tmp_path.glob("step-*")) == []


def test_a_dead_worker_s_step_is_given_back_by_the_next_worker(
    make_workshop: Callable[..., Workshop], any_database_url: str, hold: Callable[..., Holder]
) -> None:
    workshop, job_id = claimed(make_workshop, any_database_url)
    step = workshop.steps(job_id)["prepare"]
    holder = hold(workshop.worker.workspaces, step.id)
    sweep_workspaces(workshop.worker.engine, workshop.worker.workspaces)
    assert workshop.steps(job_id)["prepare"].status == "running", "its worker lives"
    holder.kill()

    create_worker(workshop.worker.settings, resources=("cpu",)).engine.dispose()

    step = workshop.steps(job_id)["prepare"]
    assert (step.status, step.status_reason, step.num_losses) == ("queued", "worker_died", 1)
    assert step.num_batch_halvings == 0
    assert not runs(holder.child)


def test_what_cannot_be_seen_from_here_keeps_its_lease(
    make_workshop: Callable[..., Workshop], any_database_url: str, hold: Callable[..., Holder]
) -> None:
    workshop, job_id = claimed(make_workshop, any_database_url)
    step = workshop.steps(job_id)["prepare"]
    holder = hold(workshop.worker.workspaces, step.id)
    holder.kill()
    (workshop.worker.workspaces / step.id / "1" / LOCK_NAME).write_text("another machine")

    (swept,) = sweep_workspaces(workshop.worker.engine, workshop.worker.workspaces)

    assert not swept.is_over
    assert workshop.steps(job_id)["prepare"].status == "running"
    assert runs(holder.child)


def test_what_cannot_be_killed_keeps_its_folder_and_its_lease(
    make_workshop: Callable[..., Workshop],
    any_database_url: str,
    hold: Callable[..., Holder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workshop, job_id = claimed(make_workshop, any_database_url)
    step = workshop.steps(job_id)["prepare"]
    holder = hold(workshop.worker.workspaces, step.id)
    holder.kill()
    monkeypatch.setattr("app.operations.workspaces._KILL_SECONDS", 0.2)
    monkeypatch.setattr("app.operations.workspaces.os.kill", lambda *_: None)

    swept = sweep_workspaces(workshop.worker.engine, workshop.worker.workspaces)
    monkeypatch.undo()

    assert swept == []
    assert runs(holder.child)
    assert (workshop.worker.workspaces / step.id / "1" / "out").is_dir()
    assert workshop.steps(job_id)["prepare"].status == "running"
    sweep_workspaces(workshop.worker.engine, workshop.worker.workspaces)
    assert workshop.steps(job_id)["prepare"].status == "queued"


def test_an_attempt_that_has_ended_is_not_ended_again(
    make_workshop: Callable[..., Workshop], any_database_url: str, hold: Callable[..., Holder]
) -> None:
    workshop, job_id = claimed(make_workshop, any_database_url)
    step = workshop.steps(job_id)["prepare"]
    hold(workshop.worker.workspaces, step.id).kill()
    workshop.lose(job_id)

    (swept,) = sweep_workspaces(workshop.worker.engine, workshop.worker.workspaces)

    step = workshop.steps(job_id)["prepare"]
    assert swept.is_over
    assert (step.status, step.attempt, step.num_losses) == ("running", 2, 0)


def test_garbage_collection_lists_what_dead_workers_left_and_removes_it(
    make_workshop: Callable[..., Workshop], hold: Callable[..., Holder]
) -> None:
    workshop = make_workshop()
    worker = workshop.worker
    hold(worker.workspaces, "step-1").kill()
    hold(worker.workspaces, "step-2")

    def collect(*, dry_run: bool) -> tuple[int, int]:
        report = collect_garbage(worker.engine, worker.store, worker.settings, dry_run=dry_run)
        (found,) = [item for item in report.found if item.kind == "workspace"]
        return found.num, found.num_bytes

    listed = collect(dry_run=True)
    removed = collect(dry_run=False)

    assert listed == removed
    assert listed[0] == 1
    assert listed[1] >= 1000
    assert collect(dry_run=True) == (0, 0)
    assert [folder.name for folder in worker.workspaces.glob("step-*")] == ["step-2"]


def claimed(make_workshop: Callable[..., Workshop], database_url: str) -> tuple[Workshop, str]:
    """A job whose first step somebody has claimed, and its id."""
    workshop = make_workshop(database_url=database_url)
    job_id = workshop.submit()
    assert in_transaction(
        workshop.worker.engine, jobs.claim_step, worker_id="dead", resources=("cpu",), lease_seconds=60
    )
    return workshop, job_id


def runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
