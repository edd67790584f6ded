"""The last two needs of a step succeed in the same instant, in two processes with own connections."""

import multiprocessing
import os
from multiprocessing.synchronize import Barrier as ProcessBarrier

import pytest
from sqlalchemy import Engine, func, select

from app.db.models import OutboxMessage
from app.db.session import create_engine, in_transaction, read_only
from app.jobs import service
from app.jobs.lifecycle import StepStatus
from tests.app.jobs import builders as given

NUM_RACES = int(os.environ.get("FUSION_TEST_RACES", "30"))
"""Set it higher for a long run."""

Fence = tuple[str, int]


@pytest.mark.timeout(600)
def test_the_dependant_is_queued_once_and_never_missed(engine: Engine, database_url: str) -> None:
    project_id = given.make_project(engine)
    jobs = [given.submit(engine, project_id) for _ in range(NUM_RACES)]
    for prepare in [given.claim(engine) for _ in jobs]:
        given.complete(engine, prepare)
    claimed = [given.claim(engine) for _ in range(2 * NUM_RACES)]
    lanes: list[list[Fence]] = [[], []]
    for job in jobs:
        first, second = (step for step in claimed if step.job_id == job.id)
        lanes[0].append((first.step_id, first.attempt))
        lanes[1].append((second.step_id, second.attempt))
    rings_before = num_rings(engine)

    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    racers = [context.Process(target=race, args=(database_url, lane, barrier)) for lane in lanes]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    assert [racer.exitcode for racer in racers] == [0, 0]
    assert [given.statuses(engine, job.id)["align"] for job in jobs] == [StepStatus.QUEUED] * NUM_RACES
    assert num_rings(engine) - rings_before == NUM_RACES


def race(url: str, lane: list[Fence], barrier: ProcessBarrier) -> None:
    """Complete one step of each pair at the same moment as the other process."""
    engine = create_engine(url)
    for step_id, attempt in lane:
        barrier.wait(timeout=120)
        assert in_transaction(
            engine,
            service.complete_step,
            step_id=step_id,
            attempt=attempt,
            artifact_id="art-1",
            figures={},
        )
    engine.dispose()


def num_rings(engine: Engine) -> int:
    with read_only(engine) as session:
        return session.scalar(select(func.count()).select_from(OutboxMessage)) or 0
