"""One step from claim to end, with real child processes and real databases."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text, update

from app.artifacts.service import fetch_artifact
from app.db.models import Step
from app.db.session import transaction
from app.jobs import service as jobs
from tests.workers.conftest import Workshop
from workers.step_runner import run_one, run_until_idle

WAIT_SECONDS = 60.0


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def runs(pid: int) -> bool:
    """A zombie does not run; it waits for whoever adopted it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_job_runs_from_its_first_step_to_its_model(
    make_workshop: Callable[..., Workshop], any_database_url: str
) -> None:
    workshop = make_workshop(database_url=any_database_url).playing("work")
    job_id = workshop.submit()

    num_steps = run_until_idle(workshop.worker)

    steps = workshop.steps(job_id)
    assert num_steps == len(steps)
    assert {step.status for step in steps.values()} == {"succeeded"}
    assert workshop.job(job_id).status == "succeeded"
    assert steps["train.fused"].figures == {"answer": 42}
    assert [artifact.kind for artifact in workshop.artifacts(job_id, "model")] == ["model"]


def test_what_a_stage_says_is_stored(workshop: Workshop) -> None:
    workshop = workshop.playing("work")
    job_id = workshop.submit()

    run_one(workshop.worker)

    step = workshop.steps(job_id)["prepare"]
    assert (step.done, step.total, step.unit, step.tokens_done) == (1, 2, "windows", 10)
    assert [point.values for point in workshop.points(job_id)] == [{"loss": 2.5}]
    assert "went well" in [event.message for event in workshop.events(job_id)]
    assert [part.role for part in workshop.artifacts(job_id, "checkpoint")] == ["parts/one"]


def test_a_stage_reads_the_outputs_of_the_steps_it_needs(workshop: Workshop, tmp_path: Path) -> None:
    workshop = workshop.playing("work")
    job_id = workshop.submit()

    run_until_idle(workshop.worker)

    artifact_id = workshop.steps(job_id)["align"].artifact_id
    assert artifact_id is not None
    fetch_artifact(workshop.worker.engine, workshop.worker.store, artifact_id, into=tmp_path / "got")
    assert (
        tmp_path / "got" / "result.txt"
    ).read_text() == "align saw ['extract.source', 'extract.target', 'prepare']"


def test_the_log_of_every_attempt_is_kept_and_the_workspace_is_not(workshop: Workshop) -> None:
    workshop = workshop.playing("work")
    job_id = workshop.submit()

    run_one(workshop.worker)

    assert workshop.log(job_id) == ["working"]
    assert list(workshop.worker.workspaces.glob("step-*")) == []


def test_an_error_of_the_users_fails_the_job_at_once(workshop: Workshop) -> None:
    workshop = workshop.playing("user_error")
    job_id = workshop.submit()

    assert run_until_idle(workshop.worker) == 1

    job = workshop.job(job_id)
    assert job.status == "failed"
    assert job.error is not None
    assert (job.error["code"], job.error["category"]) == ("corpus_empty", "user")
    assert job.error["hint"] == "add text"
    assert job.error["pointer"] == "/corpus/files/0"


@pytest.mark.parametrize(
    ("behaviour", "code", "category"),
    [
        ("killed", "stage_killed", "infrastructure"),
        ("silent_end", "stage_ended_silently", "internal"),
        ("garbage", "stage_protocol", "internal"),
    ],
)
def test_a_crash_is_tried_again(workshop: Workshop, behaviour: str, code: str, category: str) -> None:
    workshop = workshop.playing(behaviour)
    job_id = workshop.submit()

    run_one(workshop.worker)

    step = workshop.steps(job_id)["prepare"]
    assert (step.status, step.status_reason) == ("queued", code)
    (attempt,) = workshop.attempts(job_id)
    assert attempt.error is not None
    assert attempt.error["log_tail"] == workshop.log(job_id)
    with transaction(workshop.worker.engine) as session:
        session.execute(update(Step).where(Step.id == step.id).values(ready_at=step.created_at))
    workshop.playing("work")
    run_one(workshop.playing("work").worker)
    assert workshop.steps(job_id)["prepare"].status == "succeeded"
    assert workshop.steps(job_id)["prepare"].attempt == 2


def test_a_stage_that_falls_silent_is_killed_and_counts_as_lost(
    make_workshop: Callable[..., Workshop], any_database_url: str
) -> None:
    limits = {"prepare": 0.5}
    workshop = make_workshop(
        database_url=any_database_url, heartbeat_seconds=0.2, stall_seconds=limits
    ).playing("silent")
    job_id = workshop.submit()

    run_one(workshop.worker)

    step = workshop.steps(job_id)["prepare"]
    assert (step.status, step.status_reason) == ("queued", "stalled")
    assert (step.num_losses, step.num_errors) == (1, 0)
    assert not any(runs(pid) for pid in workshop.family(job_id))


def test_a_stage_that_goes_on_speaking_is_left_alone(make_workshop: Callable[..., Workshop]) -> None:
    workshop = make_workshop(stall_seconds={"prepare": 4.0}).playing("slow_talker")
    job_id = workshop.submit()

    run_one(workshop.worker)

    assert workshop.steps(job_id)["prepare"].status == "succeeded"


def test_what_kills_its_process_three_times_is_poison(
    make_workshop: Callable[..., Workshop], any_database_url: str
) -> None:
    workshop = make_workshop(database_url=any_database_url).playing("killed")
    job_id = workshop.submit()

    for _ in range(3):
        assert run_one(workshop.worker)
        with transaction(workshop.worker.engine) as session:
            session.execute(update(Step).where(Step.status == "queued").values(ready_at=Step.created_at))

    step, error = workshop.steps(job_id)["prepare"], workshop.job(job_id).error
    assert (step.status, step.attempt, step.num_losses) == ("failed", 3, 3)
    assert error is not None
    assert error["code"] == "worker_lost"
    assert "stage_killed, stage_killed, stage_killed" in error["message"]
    assert "max_tokens" in error["hint"]
    assert run_one(workshop.worker) is False


@pytest.mark.parametrize(("num_kills", "num_halvings"), [(1, 0), (2, 1)])
def test_only_a_second_kill_of_unknown_origin_makes_batches_smaller(
    workshop: Workshop, num_kills: int, num_halvings: int
) -> None:
    workshop = workshop.playing("killed")
    job_id = workshop.submit()
    for _ in range(num_kills):
        run_one(workshop.worker)
        with transaction(workshop.worker.engine) as session:
            session.execute(update(Step).where(Step.status == "queued").values(ready_at=Step.created_at))

    run_one(workshop.playing("tells_halvings").worker)

    assert workshop.steps(job_id)["prepare"].figures == {"num_batch_halvings": num_halvings}


def test_a_kill_that_the_kernel_counts_makes_batches_smaller_at_once(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([7, 8])
    monkeypatch.setattr("workers.supervision.count_oom_kills", lambda: next(counts))
    job_id = workshop.submit()

    run_one(workshop.playing("killed").worker)

    step = workshop.steps(job_id)["prepare"]
    assert (step.status, step.status_reason, step.num_losses) == ("queued", "out_of_memory", 0)
    assert step.num_batch_halvings == 1


def test_a_pause_lets_the_stage_store_what_it_has(
    make_workshop: Callable[..., Workshop], any_database_url: str
) -> None:
    workshop = make_workshop(database_url=any_database_url, heartbeat_seconds=0.2).playing("stores_on_term")
    job_id = workshop.submit()
    thread = workshop.run_one_in_background()
    wait_for(lambda: workshop.family(job_id))
    ids = {"project_id": workshop.job(job_id).project_id, "job_id": job_id}

    with transaction(workshop.worker.engine) as session:
        jobs.request_pause(session, **ids)
    thread.join(timeout=WAIT_SECONDS)

    step = workshop.steps(job_id)["prepare"]
    assert not thread.is_alive()
    assert workshop.job(job_id).status == "paused"
    assert (step.status, step.num_errors, step.num_losses) == ("queued", 0, 0)
    assert [part.role for part in workshop.artifacts(job_id, "checkpoint")] == ["parts/one"]
    assert run_one(workshop.worker) is False
    with transaction(workshop.worker.engine) as session:
        jobs.request_resume(session, **ids)
    assert run_one(workshop.worker)
    assert workshop.steps(job_id)["prepare"].status == "succeeded"


def test_a_crash_says_the_last_lines_of_the_log(workshop: Workshop) -> None:
    workshop = workshop.playing("silent_end")
    job_id = workshop.submit()

    for _ in range(2):
        run_one(workshop.worker)
        with transaction(workshop.worker.engine) as session:
            session.execute(update(Step).where(Step.status == "queued").values(ready_at=Step.created_at))

    error = workshop.job(job_id).error
    assert error is not None
    assert "exit code 3" in error["message"]
    assert error["log_tail"] == ["something odd happened"]


def test_cancel_ends_a_stubborn_family(
    make_workshop: Callable[..., Workshop], any_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.supervision.TERMINATE_SECONDS", 1.0)
    workshop = make_workshop(database_url=any_database_url, heartbeat_seconds=0.2).playing("stubborn_family")
    job_id = workshop.submit()
    thread = workshop.run_one_in_background()
    wait_for(lambda: workshop.family(job_id))

    with transaction(workshop.worker.engine) as session:
        jobs.request_cancel(session, project_id=workshop.job(job_id).project_id, job_id=job_id)
    thread.join(timeout=WAIT_SECONDS)

    assert not thread.is_alive()
    assert not any(runs(pid) for pid in workshop.family(job_id))
    assert workshop.job(job_id).status == "cancelled"


def test_a_stage_that_ends_leaves_no_process(workshop: Workshop) -> None:
    workshop = workshop.playing("orphan")
    job_id = workshop.submit()

    run_one(workshop.worker)

    assert workshop.steps(job_id)["prepare"].status == "succeeded"
    (pid,) = workshop.family(job_id)
    assert not runs(pid)


def test_a_drain_gives_the_step_back_with_its_parts(workshop: Workshop) -> None:
    workshop = workshop.playing("resumable")
    job_id = workshop.submit()
    thread = workshop.run_one_in_background()
    wait_for(lambda: workshop.artifacts(job_id, "checkpoint"))

    workshop.worker.drain.set()
    thread.join(timeout=WAIT_SECONDS)

    step = workshop.steps(job_id)["prepare"]
    assert (step.status, step.status_reason) == ("queued", "drain")
    assert run_one(workshop.worker) is False


def test_another_attempt_goes_on_from_the_finished_parts(workshop: Workshop) -> None:
    workshop = workshop.playing("resumable")
    job_id = workshop.submit()
    thread = workshop.run_one_in_background()
    wait_for(lambda: workshop.family(job_id))
    wait_for(lambda: workshop.artifacts(job_id, "checkpoint"))
    psutil.Process(workshop.family(job_id)[0]).kill()
    thread.join(timeout=WAIT_SECONDS)
    with transaction(workshop.worker.engine) as session:
        session.execute(update(Step).where(Step.status == "queued").values(ready_at=Step.created_at))

    run_one(workshop.worker)

    step = workshop.steps(job_id)["prepare"]
    assert (step.status, step.attempt) == ("succeeded", 2)


def test_a_worker_that_lost_its_step_stops_and_writes_nothing(workshop: Workshop) -> None:
    workshop = workshop.playing("resumable")
    job_id = workshop.submit()
    thread = workshop.run_one_in_background()
    wait_for(lambda: workshop.family(job_id))

    workshop.lose(job_id)
    thread.join(timeout=WAIT_SECONDS)

    assert not thread.is_alive()
    assert not runs(workshop.family(job_id)[0])
    assert workshop.steps(job_id)["prepare"].status == "running"
    assert workshop.log(job_id) == []


def test_a_path_replaced_by_a_link_is_refused_by_the_worker(
    workshop: Workshop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    workshop = workshop.playing("work")
    job_id = workshop.submit()
    shutil.rmtree(workshop.root / "source")
    (workshop.root / "source").symlink_to(tmp_path_factory.mktemp("outside"))

    run_one(workshop.worker)

    error = workshop.job(job_id).error
    assert error is not None
    assert (error["code"], error["pointer"]) == ("path_not_allowed", "/sources/0/model/path")


def test_output_and_success_are_one_transaction(workshop: Workshop) -> None:
    workshop = workshop.playing("work")
    job_id = workshop.submit()
    refusal = "CREATE TRIGGER refuse BEFORE UPDATE ON steps WHEN NEW.status = 'succeeded'"
    with transaction(workshop.worker.engine) as session:
        session.execute(text(f"{refusal} BEGIN SELECT RAISE(ABORT, 'not today'); END"))

    assert run_one(workshop.worker)

    step = workshop.steps(job_id)["prepare"]
    assert (step.status, step.status_reason) == ("queued", "internal")
    assert workshop.artifacts(job_id, "output") == []


def test_a_folder_that_cannot_be_made_ends_the_attempt_and_not_the_worker(workshop: Workshop) -> None:
    workshop = workshop.playing("work")
    job_id = workshop.submit()
    in_the_way = workshop.worker.workspaces / workshop.steps(job_id)["prepare"].id
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.touch()

    assert run_one(workshop.worker)

    step = workshop.steps(job_id)["prepare"]
    assert (step.status, step.status_reason, step.num_errors) == ("queued", "worker_machine", 1)


def test_an_idle_worker_finds_nothing(workshop: Workshop) -> None:
    assert run_one(workshop.worker) is False
