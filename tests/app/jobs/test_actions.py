"""Pausing, resuming and prioritising jobs, on both databases."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from app.db.models import Job
from app.db.session import in_transaction
from app.errors import Conflict
from app.jobs import service
from app.jobs.lifecycle import Instruction, JobStatus
from tests.app.jobs import builders as given


def pause(engine: Engine, job: Job) -> Job:
    return in_transaction(engine, service.request_pause, project_id=job.project_id, job_id=job.id)


def resume(engine: Engine, job: Job) -> Job:
    return in_transaction(engine, service.request_resume, project_id=job.project_id, job_id=job.id)


def test_a_waiting_job_is_paused_at_once_and_goes_on_when_it_is_resumed(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)

    paused = pause(engine, job)
    claimed_meanwhile = given.try_claim(engine)
    resumed = resume(engine, job)
    given.run_to_end(engine)

    assert (paused.status, claimed_meanwhile, resumed.status) == (JobStatus.PAUSED, None, JobStatus.QUEUED)
    assert given.job_now(engine, job.id).status == JobStatus.SUCCEEDED


def test_a_pause_takes_no_attempt_and_keeps_the_parts(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    step = given.claim(engine)
    fence = {"step_id": step.step_id, "attempt": step.attempt}
    part = given.store_artifact(engine, step, kind="checkpoint", role="shard-00000")

    pausing = pause(engine, job)
    heard = in_transaction(engine, service.heartbeat, **fence, lease_seconds=60)
    in_transaction(engine, service.release_step, **fence, reason="pause")
    paused = given.job_now(engine, job.id)
    held = given.try_claim(engine)
    resume(engine, job)
    again = given.claim(engine)

    assert (pausing.status, heard, paused.status) == (JobStatus.PAUSING, Instruction.PAUSE, JobStatus.PAUSED)
    assert held is None
    assert again.checkpoint_artifact_ids == {"shard-00000": part}
    now = given.step_now(engine, step.step_id)
    assert (now.num_errors, now.num_losses) == (0, 0)


def test_a_step_that_finishes_while_its_job_is_paused_unblocks_nothing_yet(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    step = given.claim(engine)
    pause(engine, job)

    given.complete(engine, step)
    while_paused = (given.job_now(engine, job.id).status, given.try_claim(engine))
    resume(engine, job)

    assert while_paused == (JobStatus.PAUSED, None)
    assert given.claim(engine).name == "extract.target"


def test_a_step_that_backs_off_while_its_job_is_paused_stays(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    step = given.claim(engine)
    pause(engine, job)
    given.fail(engine, step, given.NETWORK_ERROR)
    given.make_ready_now(engine)

    assert given.job_now(engine, job.id).status == JobStatus.PAUSED
    assert given.try_claim(engine) is None


def test_asking_twice_changes_nothing(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    for act in (pause, pause, resume, resume):
        act(engine, job)

    types = [event.type for event in given.events(engine, job.id)]
    assert (types.count("pause_requested"), types.count("resume_requested")) == (1, 1)


def test_a_paused_job_can_be_cancelled(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    pause(engine, job)

    cancelled = in_transaction(engine, service.request_cancel, project_id=job.project_id, job_id=job.id)

    assert cancelled.status == JobStatus.CANCELLED


@pytest.mark.parametrize("action", ["pause", "resume", "priority"])
@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "cancelling"])
def test_what_is_over_is_left_alone(engine: Engine, action: str, state: str) -> None:
    job = given.submit_in_new_project(engine)
    match state:
        case "succeeded":
            given.run_to_end(engine)
        case "failed":
            given.fail(engine, given.claim(engine), given.USER_ERROR)
        case "cancelling":
            given.claim(engine)
    if state.startswith("cancel"):
        in_transaction(engine, service.request_cancel, project_id=job.project_id, job_id=job.id)
    ids = {"project_id": job.project_id, "job_id": job.id}

    asked: dict[str, Callable[[], Job]] = {
        "pause": lambda: pause(engine, job),
        "resume": lambda: resume(engine, job),
        "priority": lambda: in_transaction(engine, service.set_priority, **ids, priority=1),
    }

    with pytest.raises(Conflict) as refused:
        asked[action]()

    assert refused.value.code == ("job_cancelling" if state == "cancelling" else "job_finished")
    assert given.job_now(engine, job.id).status == state
