"""Whose step is claimed next, on both databases."""

import pytest
from sqlalchemy import Engine

from app.db.session import in_transaction
from app.jobs import service
from app.jobs.lifecycle import StepStatus
from benchmarks.claims import flood
from tests.app.jobs import builders as given


def test_a_flood_of_one_project_does_not_delay_anothers_first_job(engine: Engine) -> None:
    flooding = flood(engine, num_jobs=10_000)
    served = [given.claim(engine).project_id for _ in range(3)]
    job = given.submit(engine, given.make_project(engine, "other"))

    step = given.claim(engine)

    assert served == [flooding] * 3
    assert step.job_id == job.id


def test_one_worker_serves_projects_in_turn(engine: Engine) -> None:
    """Nothing runs when its only worker claims, so the number of running steps alone would be no turn."""
    first, second = given.make_project(engine, "a"), given.make_project(engine, "b")
    for project_id in (first, first, first, second, second):
        given.submit(engine, project_id)

    served = []
    for _ in range(4):
        step = given.claim(engine)
        served.append(step.project_id)
        given.fail(engine, step, given.USER_ERROR)

    assert served == [first, second, first, second]


def test_the_project_with_fewer_running_steps_goes_first(engine: Engine) -> None:
    busy, idle = given.make_project(engine, "a"), given.make_project(engine, "b")
    for project_id in (busy, busy, busy, idle, idle, idle):
        given.submit(engine, project_id)

    served = [given.claim(engine).project_id for _ in range(6)]

    assert sorted(served[:2]) == sorted(served[2:4]) == sorted(served[4:]) == sorted([busy, idle])


def test_a_projects_important_job_goes_before_its_older_ones(engine: Engine) -> None:
    project_id = given.make_project(engine)
    jobs = [given.submit(engine, project_id) for _ in range(3)]
    in_transaction(engine, service.set_priority, project_id=project_id, job_id=jobs[2].id, priority=5)
    in_transaction(engine, service.set_priority, project_id=project_id, job_id=jobs[0].id, priority=-1)

    claimed = [given.claim(engine).job_id for _ in range(3)]

    assert claimed == [jobs[2].id, jobs[1].id, jobs[0].id]


def test_a_priority_takes_nothing_from_another_project(engine: Engine) -> None:
    pushy, modest = given.make_project(engine, "a"), given.make_project(engine, "b")
    for _ in range(3):
        job = given.submit(engine, pushy)
        in_transaction(engine, service.set_priority, project_id=pushy, job_id=job.id, priority=10)
    given.claim(engine)
    given.submit(engine, modest)

    assert given.claim(engine).project_id == modest


def test_a_priority_holds_for_the_steps_that_come_later(engine: Engine) -> None:
    project_id = given.make_project(engine)
    older, newer = given.submit(engine, project_id), given.submit(engine, project_id)
    for step in [given.claim(engine), given.claim(engine)]:
        given.complete(engine, step)
    in_transaction(engine, service.set_priority, project_id=project_id, job_id=newer.id, priority=1)

    claimed = [given.claim(engine).job_id for _ in range(3)]

    assert claimed == [newer.id, newer.id, older.id]


@pytest.mark.parametrize("held_back", ["paused", "backing off", "cancelled"])
def test_what_cannot_be_claimed_does_not_stand_in_the_way(engine: Engine, held_back: str) -> None:
    project_id = given.make_project(engine)
    first, second = given.submit(engine, project_id), given.submit(engine, project_id)
    match held_back:
        case "paused":
            in_transaction(engine, service.request_pause, project_id=project_id, job_id=first.id)
        case "backing off":
            given.fail(engine, given.claim(engine), given.NETWORK_ERROR)
            assert given.statuses(engine, first.id)["prepare"] == StepStatus.QUEUED
        case _:
            in_transaction(engine, service.request_cancel, project_id=project_id, job_id=first.id)

    assert given.claim(engine).job_id == second.id
    assert given.try_claim(engine) is None
