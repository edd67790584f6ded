"""A cancel and the end of a step in the same instant: the job ends once, and stays what it is."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from app.db.models import Job
from app.db.session import in_transaction
from app.jobs import service
from app.jobs.lifecycle import FINISHED_JOBS
from fusion.errors import InfrastructureError
from tests.app.jobs import builders as given

NUM_RACES = 10
KILLED = InfrastructureError("killed", code="stage_killed").to_dict()
End = Callable[[Engine, service.ClaimedStep], bool]


def lose(engine: Engine, step: service.ClaimedStep) -> bool:
    return in_transaction(engine, service.lose_step, step_id=step.step_id, attempt=step.attempt, error=KILLED)


def fail(engine: Engine, step: service.ClaimedStep) -> bool:
    return given.fail(engine, step, given.USER_ERROR)


@pytest.mark.parametrize(
    ("stage", "end", "possible"),
    [
        ("prepare", given.complete, {"cancelled"}),
        ("prepare", fail, {"failed", "cancelled"}),
        ("prepare", lose, {"cancelled"}),
        # When nothing is left to do, a cancel comes too late, also one that came first.
        ("publish", given.complete, {"succeeded"}),
        ("publish", fail, {"failed", "cancelled"}),
    ],
)
def test_a_cancel_and_an_end_at_once_leave_one_truth(
    engine: Engine, stage: str, end: End, possible: set[str]
) -> None:
    project_id = given.make_project(engine)
    for _ in range(NUM_RACES):
        job = given.submit(engine, project_id)
        step = claim_stage(engine, stage)
        barrier = threading.Barrier(2)

        def cancel(job: Job = job, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            in_transaction(engine, service.request_cancel, project_id=job.project_id, job_id=job.id)

        def finish(step: service.ClaimedStep = step, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            return end(engine, step)

        with ThreadPoolExecutor(2) as pool:
            cancelling, finishing = pool.submit(cancel), pool.submit(finish)
            cancelling.result()
            assert finishing.result(), "the attempt that holds the step was refused"

        ended = given.job_now(engine, job.id)
        assert ended.status in possible
        assert given.try_claim(engine) is None
        in_transaction(engine, service.request_cancel, project_id=job.project_id, job_id=job.id)
        in_transaction(engine, service.reconcile)
        again = given.job_now(engine, job.id)
        assert (again.status, again.finished_at) == (ended.status, ended.finished_at)
        assert ended.status in FINISHED_JOBS
        assert set(given.statuses(engine, job.id).values()) <= {"succeeded", "failed", "cancelled"}


def claim_stage(engine: Engine, stage: str) -> service.ClaimedStep:
    """Everything before a stage is done, and somebody has that."""
    while (step := given.claim(engine)).stage != stage:
        assert given.complete(engine, step)
    return step
