"""`/v1/workers` and `/v1/queues`."""

from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, update

from app.accounts import service as accounts
from app.accounts.scopes import Scope
from app.db.base import db_time
from app.db.models import Step, Worker
from app.db.session import transaction
from tests.app.jobs import builders as given


def strangers_headers(client: TestClient, engine: Engine) -> dict[str, str]:
    """A key of another project that may read jobs."""
    app = client.app
    assert isinstance(app, FastAPI)
    project_id = given.make_project(engine, "strangers")
    with transaction(engine) as session:
        _, text = accounts.create_key(
            session,
            project_id=project_id,
            name="k",
            scopes=[Scope.JOBS_READ],
            pepper=app.state.key_pepper,
        )
    return {"Authorization": f"Bearer {text}"}


def listed(client: TestClient, path: str, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    answer = client.get(path, headers=headers or {})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["data"]
    return items


def submit(client: TestClient) -> str:
    job_id: str = client.post("/v1/jobs", json=given.spec_data()).json()["id"]
    return job_id


def test_a_worker_shows_what_it_runs_and_names_it_to_its_own_project_only(
    client: TestClient, engine: Engine
) -> None:
    job_id = submit(client)
    step = given.claim(engine)

    own = listed(client, "/v1/workers")
    strangers = listed(client, "/v1/workers", strangers_headers(client, engine))

    current = own[0]["current_step"]
    assert (own[0]["id"], own[0]["resources"], own[0]["is_live"]) == ("worker-1", ["cpu", "gpu"], True)
    assert (current["job_id"], current["step_id"], current["step"]) == (job_id, step.step_id, "prepare")
    hidden = strangers[0]["current_step"]
    assert (hidden["job_id"], hidden["step_id"], hidden["step"]) == (None, None, None)
    assert (hidden["stage"], hidden["attempt"]) == ("prepare", 1)


def test_silent_workers_come_last_and_can_be_left_out(client: TestClient, engine: Engine) -> None:
    for worker_id in ("gone", "there"):
        submit(client)
        given.claim(engine, worker_id=worker_id)
    with transaction(engine) as session:
        session.execute(update(Worker).where(Worker.id == "gone").values(last_seen_at=db_time(-3600)))

    everybody = listed(client, "/v1/workers")
    first = client.get("/v1/workers?limit=1").json()

    assert [(one["id"], one["is_live"]) for one in everybody] == [("there", True), ("gone", False)]
    assert [one["id"] for one in listed(client, "/v1/workers?live=true")] == ["there"]
    assert (len(first["data"]), first["has_more"]) == (1, True)


def test_queues_count_what_waits_and_since_when(client: TestClient, engine: Engine) -> None:
    for _ in range(3):
        submit(client)
    paused = submit(client)
    client.post(f"/v1/jobs/{paused}/pause")
    retried = given.claim(engine)
    given.fail(engine, retried, given.NETWORK_ERROR)
    given.claim(engine)
    with transaction(engine) as session:
        waiting = update(Step).where(Step.status == "queued", Step.ready_at < db_time())
        session.execute(waiting.values(ready_at=db_time(-600)))

    cpu, gpu = listed(client, "/v1/queues")
    strangers_cpu, _ = listed(client, "/v1/queues", strangers_headers(client, engine))

    assert cpu["id"] == "cpu"
    assert 600 <= cpu.pop("oldest_waiting_seconds") < 700
    assert cpu == {
        "object": "queue",
        "id": "cpu",
        "depth": 1,
        "own_depth": 1,
        "num_delayed": 1,
        "num_held": 1,
        "num_running": 1,
        "num_live_workers": 1,
        "num_idle_workers": 0,
    }
    assert (gpu["depth"], gpu["oldest_waiting_seconds"], gpu["num_live_workers"]) == (0, None, 1)
    assert (strangers_cpu["depth"], strangers_cpu["own_depth"]) == (1, 0)


def test_nobody_without_a_key(client: TestClient) -> None:
    for path in ("/v1/workers", "/v1/queues"):
        assert client.get(path, headers={"Authorization": ""}).status_code == 401
