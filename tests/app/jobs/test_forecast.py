"""ETA, place in the queue and reason for waiting, as the API shows them."""

from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import Engine, event, update

from app.db.base import db_time
from app.db.models import Project, Step, Worker
from app.db.session import in_transaction, transaction
from app.jobs import service
from tests.app.jobs import builders as given


def submit(client: TestClient, **params: Any) -> str:
    answer = client.post("/v1/jobs", json=given.spec_data(), params=params)
    assert answer.status_code == 201, answer.text
    job_id: str = answer.json()["id"]
    return job_id


def shown(client: TestClient, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
    listed = next(one for one in client.get("/v1/jobs").json()["data"] if one["id"] == job_id)
    assert listed["status_reason"] == job["status_reason"]
    assert listed["queue_position"] == job["queue_position"]
    return job


def project_of(client: TestClient) -> str:
    project_id: str = client.get("/v1/me").json()["project"]["id"]
    return project_id


def test_the_first_job_of_all_has_no_eta(client: TestClient, engine: Engine) -> None:
    job_id = submit(client)

    queued = shown(client, job_id)
    given.claim(engine)
    running = shown(client, job_id)

    for job in (queued, running):
        assert job["progress"]["eta_seconds"] is None
        assert job["progress"]["estimated_finish_at"] is None
        assert job["progress"]["stage_eta_seconds"] is None


def test_a_later_job_goes_by_what_the_steps_of_earlier_ones_took(client: TestClient, engine: Engine) -> None:
    given.insert_finished_job(engine, project_of(client), seconds=100)
    job_id = submit(client)
    step = given.claim(engine)

    job = shown(client, job_id)
    steps = client.get(f"/v1/jobs/{job_id}/steps").json()["data"]

    # Seven steps of 100 seconds, the first of which has just begun.
    assert 680 <= job["progress"]["eta_seconds"] <= 700
    assert abs(job["progress"]["estimated_finish_at"] - job["created_at"] - 700) < 60
    assert [one["expected_seconds"] for one in steps] == [100] * len(steps)
    assert (steps[0]["worker_id"], steps[0]["last_attempt"]["outcome"]) == ("worker-1", "running")
    assert steps[0]["last_attempt"]["number"] == step.attempt


def test_a_running_step_goes_by_its_own_rate(client: TestClient, engine: Engine) -> None:
    given.insert_finished_job(engine, project_of(client), seconds=100)
    job_id = submit(client)
    step = given.claim(engine)
    fence = {"step_id": step.step_id, "attempt": step.attempt}
    in_transaction(engine, service.record_progress, **fence, done=1, total=11, unit="documents", tokens=1)
    with transaction(engine) as session:
        # One document in a minute, ten to go.
        of_step = update(Step).where(Step.id == step.step_id)
        session.execute(of_step.values(first_done=0, first_progress_at=db_time(-60)))

    progress = shown(client, job_id)["progress"]
    of_step = client.get(f"/v1/jobs/{job_id}/steps").json()["data"][0]["progress"]

    assert 590 <= of_step["eta_seconds"] <= 610
    assert progress["stage_eta_seconds"] == of_step["eta_seconds"]
    assert of_step["estimated_finish_at"] == of_step["updated_at"] + of_step["eta_seconds"]
    assert 1150 <= progress["eta_seconds"] <= 1210


def test_a_finished_job_has_nothing_ahead(client: TestClient, engine: Engine) -> None:
    job_id = submit(client)
    given.run_to_end(engine)

    job = shown(client, job_id)

    assert (job["progress"]["eta_seconds"], job["queue_position"], job["status_reason"]) == (None, None, None)


def test_waiting_jobs_have_a_place_and_a_reason(client: TestClient, engine: Engine) -> None:
    first, second, urgent = submit(client), submit(client), submit(client, priority=5)

    without_workers = shown(client, first)
    given.claim(engine)
    jobs = [shown(client, job_id) for job_id in (urgent, first, second)]

    assert without_workers["status_reason"] == "waiting_for_worker"
    assert without_workers["queue_position"] == 2
    assert [job["queue_position"] for job in jobs] == [None, 1, 2]
    assert [job["status_reason"] for job in jobs] == [None, "waiting_for_turn", "waiting_for_turn"]


def test_a_project_that_runs_as_many_jobs_as_it_may_waits_for_its_own(
    client: TestClient, engine: Engine
) -> None:
    first, second = submit(client), submit(client)
    with transaction(engine) as session:
        session.execute(update(Project).values(max_running_jobs=1))

    before = shown(client, second)
    given.claim(engine)
    after = shown(client, second)

    assert before["status_reason"] == "waiting_for_worker"
    assert (after["status_reason"], after["queue_position"]) == ("quota_exceeded", 1)
    assert shown(client, first)["status_reason"] is None


def test_what_a_project_uses_is_added_up_once_for_all_of_its_jobs(client: TestClient, engine: Engine) -> None:
    api: Any = client.app
    asked = api.state.engine
    for _ in range(3):
        submit(client)
    with transaction(engine) as session:
        session.execute(update(Project).values(max_running_jobs=1, max_stored_bytes=10**12))
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    event.listen(asked, "before_cursor_execute", note)
    listed = client.get("/v1/jobs").json()["data"]
    event.remove(asked, "before_cursor_execute", note)

    assert len(listed) == 3
    assert sum("max_stored_bytes IS NULL" in statement for statement in statements) == 1


def test_a_worker_that_fell_silent_is_none(client: TestClient, engine: Engine) -> None:
    first, second = submit(client), submit(client)
    given.claim(engine)
    with transaction(engine) as session:
        session.execute(update(Worker).values(last_seen_at=db_time(-600)))

    assert shown(client, first)["status_reason"] is None
    assert shown(client, second)["status_reason"] == "waiting_for_worker"


def test_a_job_that_waits_for_another_try_says_so_and_until_when(client: TestClient, engine: Engine) -> None:
    job_id = submit(client)
    given.fail(engine, given.claim(engine), given.NETWORK_ERROR)

    job = shown(client, job_id)
    step = client.get(f"/v1/jobs/{job_id}/steps").json()["data"][0]

    assert (job["status"], job["status_reason"], job["queue_position"]) == ("queued", "retrying", None)
    assert step["waits_until"] >= job["created_at"]
    assert step["last_attempt"]["error"]["code"] == "hub_unreachable"


def test_a_paused_job_waits_for_nobody(client: TestClient) -> None:
    job_id = submit(client)
    client.post(f"/v1/jobs/{job_id}/pause")

    job = shown(client, job_id)

    assert (job["status"], job["status_reason"]) == ("paused", "paused by its user")
    assert job["queue_position"] is None
