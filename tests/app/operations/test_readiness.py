"""When `/readyz` is red, on both databases."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, update

from app.db.base import db_time
from app.db.models import Step, Worker
from app.db.session import transaction
from app.operations.readiness import find_obstacles
from tests.app.jobs import builders as given


def work_obstacle(engine: Engine) -> str | None:
    return find_obstacles(engine, lease_seconds=60, stuck_seconds=300)["work"]


def wait_an_hour(engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(update(Step).where(Step.status == "queued").values(ready_at=db_time(-3600)))


def silence_workers(engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(update(Worker).values(last_seen_at=db_time(-3600)))


def test_an_empty_service_is_ready(engine: Engine) -> None:
    assert work_obstacle(engine) is None


def test_a_fresh_job_may_wait(engine: Engine) -> None:
    given.submit_in_new_project(engine)

    assert work_obstacle(engine) is None


def test_a_job_that_waits_for_nobody_is_an_obstacle(engine: Engine) -> None:
    given.submit_in_new_project(engine)
    wait_an_hour(engine)

    assert work_obstacle(engine) == "steps wait for a cpu worker, and none is alive"


def test_an_idle_worker_that_does_not_claim_is_an_obstacle(engine: Engine) -> None:
    given.try_claim(engine)
    given.submit_in_new_project(engine)
    wait_an_hour(engine)

    assert work_obstacle(engine) == "steps wait for a cpu worker, and idle ones do not claim them"


def test_a_queue_behind_a_busy_worker_is_normal(engine: Engine) -> None:
    project_id = given.make_project(engine)
    for _ in range(2):
        given.submit(engine, project_id)
    given.claim(engine)
    wait_an_hour(engine)

    assert work_obstacle(engine) is None


def test_a_worker_that_fell_silent_does_not_count(engine: Engine) -> None:
    given.try_claim(engine)
    silence_workers(engine)
    given.submit_in_new_project(engine)
    wait_an_hour(engine)

    assert work_obstacle(engine) == "steps wait for a cpu worker, and none is alive"


def test_a_worker_for_something_else_does_not_help(engine: Engine) -> None:
    given.try_claim(engine, resources=("gpu",))
    given.submit_in_new_project(engine)
    wait_an_hour(engine)

    assert work_obstacle(engine) == "steps wait for a cpu worker, and none is alive"


@pytest.mark.parametrize("stuck", [False, True])
def test_readyz_over_http(client: TestClient, engine: Engine, stuck: bool) -> None:
    given.submit_in_new_project(engine)
    if stuck:
        wait_an_hour(engine)

    response = client.get("/readyz")

    assert response.status_code == (503 if stuck else 200)
    assert response.json()["ready"] is not stuck
    assert response.json()["checks"]["work"]["ok"] is not stuck


def test_capabilities_count_live_workers(client: TestClient, engine: Engine) -> None:
    given.try_claim(engine, worker_id="a", resources=("cpu", "gpu"))
    given.try_claim(engine, worker_id="b", resources=("gpu",))

    capabilities = client.get("/v1/capabilities").json()

    assert capabilities["workers"] == {"cpu": 1, "gpu": 2}
    assert capabilities["api_versions"] == ["fusion/v1"]
    assert capabilities["presets"] == ["default", "paper"]


def test_the_schema_of_the_spec_is_open(client: TestClient) -> None:
    schema = client.get("/v1/schemas/fusion-spec", headers={"Authorization": ""}).json()

    assert schema["title"] == "FusionSpec"
    assert "sources" in schema["required"]
