"""`/v1/jobs` over HTTP, on both databases."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.db.session import in_transaction
from app.jobs import service
from tests.app.jobs import builders as given


def submit(client: TestClient, **changes: Any) -> dict[str, Any]:
    response = client.post("/v1/jobs", json=given.spec_data(**changes))
    assert response.status_code == 201, response.text
    job: dict[str, Any] = response.json()
    return job


def names(page: dict[str, Any]) -> list[str]:
    return [item["id"] for item in page["data"]]


def test_the_walk_of_a_job(client: TestClient, engine: Engine) -> None:
    job = submit(client)
    url = f"/v1/jobs/{job['id']}"

    step = given.claim(engine)
    fence = {"step_id": step.step_id, "attempt": step.attempt}
    in_transaction(engine, service.record_progress, **fence, done=1, total=4, unit="documents", tokens=100)
    running = client.get(url).json()
    given.complete(engine, step)
    given.run_to_end(engine)
    ended = client.get(url).json()

    assert (job["object"], job["status"], job["progress"]["percent"]) == ("job", "queued", 0.0)
    assert running["status"] == "running"
    assert {key: running["progress"][key] for key in ("stage", "done", "total", "unit", "tokens_done")} == {
        "stage": "prepare",
        "done": 1.0,
        "total": 4.0,
        "unit": "documents",
        "tokens_done": 100,
    }
    assert (ended["status"], ended["progress"]["percent"], ended["error"]) == ("succeeded", 100.0, None)
    assert ended["model_id"].startswith("model-")
    assert ended["artifact_id"].startswith("art-")
    assert isinstance(ended["finished_at"], int)


def test_a_submission_says_where_the_job_is(client: TestClient) -> None:
    response = client.post("/v1/jobs", json=given.spec_data())

    assert response.headers["location"] == f"/v1/jobs/{response.json()['id']}"


def test_yaml_is_accepted(client: TestClient) -> None:
    response = client.post(
        "/v1/jobs",
        content=yaml.safe_dump(given.spec_data()),
        headers={"content-type": "application/yaml; charset=utf-8"},
    )

    assert response.status_code == 201
    assert response.json()["name"] == "small"


def test_an_idempotency_key_makes_one_job(client: TestClient) -> None:
    headers = {"Idempotency-Key": "k-1"}

    first = client.post("/v1/jobs", json=given.spec_data(), headers=headers)
    again = client.post("/v1/jobs", json=given.spec_data(), headers=headers)
    other = client.post("/v1/jobs", json=given.spec_data(seed=7), headers=headers)

    assert first.json()["id"] == again.json()["id"]
    assert (first.status_code, again.status_code, other.status_code) == (201, 201, 422)
    assert again.headers["idempotent-replayed"] == "true"
    assert other.json()["code"] == "idempotency_key_reused"


@pytest.mark.parametrize("url", ["/v1/jobs?dry_run=true", "/v1/jobs/validate"])
def test_checking_stores_nothing(client: TestClient, url: str) -> None:
    response = client.post(url, json=given.spec_data(strategy={"preset": "paper"}))

    assert response.status_code == 200
    assert response.json()["spec"]["strategy"]["alignment"]["tokens"] == "dtw"
    assert response.json()["steps"][0]["name"] == "prepare"
    assert client.get("/v1/jobs").json()["data"] == []


@pytest.mark.parametrize("url", ["/v1/jobs", "/v1/jobs/validate"])
def test_a_path_outside_the_allowed_roots(client: TestClient, url: str) -> None:
    response = client.post(url, json=given.spec_data(target={"model": {"path": "/etc"}}))

    assert response.status_code == 422
    problem = response.json()
    assert problem["code"] == "path_not_allowed"
    assert problem["errors"][0]["pointer"] == "/target/model/path"
    assert "allowed_roots" in problem["detail"]
    assert problem["error"]["param"] == "/target/model/path"


def test_a_path_below_an_allowed_root(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "models" / "target").mkdir()

    assert submit(client, target={"model": {"path": str(tmp_path / "models" / "target")}})


def test_lists_are_paged_and_filtered(client: TestClient) -> None:
    ids = sorted(submit(client)["id"] for _ in range(5))
    client.post(f"/v1/jobs/{ids[0]}/cancel")

    first = client.get("/v1/jobs", params={"limit": 3}).json()
    second = client.get("/v1/jobs", params={"limit": 3, "after": first["last_id"]}).json()
    back = client.get("/v1/jobs", params={"limit": 3, "before": second["first_id"]}).json()
    oldest = client.get("/v1/jobs", params={"limit": 1, "order": "asc"}).json()
    queued = client.get("/v1/jobs", params={"status": "queued"}).json()

    assert names(first) == ids[:1:-1]
    assert (names(second), second["has_more"], first["has_more"]) == (ids[1::-1], False, True)
    assert names(back) == names(first)
    assert names(oldest) == ids[:1]
    assert names(queued) == ids[:0:-1]


def test_steps_show_the_plan(client: TestClient) -> None:
    job = submit(client)

    steps = client.get(f"/v1/jobs/{job['id']}/steps").json()["data"]

    assert [step["name"] for step in steps][:3] == ["prepare", "extract.target", "extract.mpt"]
    assert steps[3]["needs"] == ["extract.mpt", "extract.target", "prepare"]
    assert (steps[0]["status"], steps[1]["status"], steps[1]["subject"]) == ("queued", "pending", "target")


def test_events_are_read_on_from_any_of_them(client: TestClient, engine: Engine) -> None:
    job = submit(client)
    given.run_to_end(engine)
    url = f"/v1/jobs/{job['id']}/events"

    seen: list[dict[str, Any]] = []
    after = None
    while True:
        page = client.get(
            url,
            params={"order": "asc", "limit": 4, "after": after} if after else {"order": "asc", "limit": 4},
        ).json()
        seen += page["data"]
        after = page["last_id"]
        if not page["has_more"]:
            break

    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert seen[0]["type"] == "job_submitted"
    assert seen[-1]["details"] == {"from": "running", "to": "succeeded"}


def test_cancel_is_202_while_something_runs_and_200_afterwards(client: TestClient, engine: Engine) -> None:
    job = submit(client)
    step = given.claim(engine)

    asked = client.post(f"/v1/jobs/{job['id']}/cancel")
    in_transaction(engine, service.confirm_cancelled, step_id=step.step_id, attempt=step.attempt)
    again = client.post(f"/v1/jobs/{job['id']}/cancel")

    assert (asked.status_code, asked.json()["status"]) == (202, "cancelling")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")


def test_a_failed_job_says_why_and_can_be_retried(client: TestClient, engine: Engine) -> None:
    job = submit(client)
    given.fail(engine, given.claim(engine), given.USER_ERROR)

    failed = client.get(f"/v1/jobs/{job['id']}")
    retried = client.post(f"/v1/jobs/{job['id']}/retry")
    again = client.post(f"/v1/jobs/{job['id']}/retry")

    assert failed.status_code == 200
    assert failed.json()["error"] == {
        "code": "json_broken",
        "category": "user",
        "message": "line 3 is not JSON",
        "hint": "mend line 3",
        "pointer": None,
        "retryable": False,
        "log_tail": [],
    }
    assert (retried.status_code, retried.json()["status"]) == (202, "queued")
    assert (again.status_code, again.headers["x-should-retry"]) == (409, "false")
    assert again.json()["code"] == "job_not_failed"


@pytest.mark.parametrize("action", ["", "/steps", "/events", "/metrics"])
@pytest.mark.parametrize("job_id", ["job-00000000000000000000000000", "nonsense", "job-%00"])
def test_a_job_that_is_not_there(client: TestClient, action: str, job_id: str) -> None:
    response = client.get(f"/v1/jobs/{job_id}{action}")

    assert (response.status_code, response.json()["code"]) == (404, "job_not_found")


@pytest.mark.parametrize(
    "params", [{"limit": 0}, {"limit": 101}, {"after": "a\x00"}, {"order": "up"}, {"status": "x"}]
)
def test_a_wrong_query_is_named(client: TestClient, params: dict[str, Any]) -> None:
    response = client.get("/v1/jobs", params=params)

    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"].startswith(f"query:{next(iter(params))}")


def test_nothing_without_a_key(client: TestClient) -> None:
    response = client.post("/v1/jobs", json=given.spec_data(), headers={"Authorization": ""})

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
