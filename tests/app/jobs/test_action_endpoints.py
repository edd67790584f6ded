"""Actions on jobs over HTTP, on both databases."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.db.session import in_transaction
from app.jobs import service
from tests.app.jobs import builders as given


def submit(client: TestClient, **changes: Any) -> str:
    response = client.post("/v1/jobs", json=given.spec_data(**changes))
    assert response.status_code == 201, response.text
    job_id: str = response.json()["id"]
    return job_id


def test_pausing_takes_time_only_while_something_runs(client: TestClient, engine: Engine) -> None:
    url = f"/v1/jobs/{submit(client)}"
    step = given.claim(engine)

    asked = client.post(f"{url}/pause")
    in_transaction(engine, service.release_step, step_id=step.step_id, attempt=step.attempt, reason="pause")
    again = client.post(f"{url}/pause")
    resumed = client.post(f"{url}/resume")
    resumed_again = client.post(f"{url}/resume")

    assert (asked.status_code, asked.json()["status"]) == (202, "pausing")
    assert (again.status_code, again.json()["status"]) == (200, "paused")
    assert (resumed.status_code, resumed.json()["status"]) == (202, "queued")
    assert resumed_again.status_code == 200


@pytest.mark.parametrize("action", ["pause", "resume", "retry"])
def test_a_refusal_says_why_and_that_repeating_does_not_help(client: TestClient, action: str) -> None:
    url = f"/v1/jobs/{submit(client)}"
    client.post(f"{url}/cancel")

    refused = client.post(f"{url}/{action}")

    problem = refused.json()
    assert (refused.status_code, refused.headers["x-should-retry"]) == (409, "false")
    assert problem["code"] == ("job_not_failed" if action == "retry" else "job_finished")
    assert "cancelled" in problem["detail"]
    assert problem["hint"]


@pytest.mark.parametrize("action", ["cancel", "pause", "resume", "retry", "clone"])
def test_a_job_that_is_not_there(client: TestClient, action: str) -> None:
    assert client.post(f"/v1/jobs/job-nothing/{action}").status_code == 404


def test_a_clone_is_a_new_job_with_the_changes_of_its_user(client: TestClient) -> None:
    original = submit(client, seed=3)

    same = client.post(f"/v1/jobs/{original}/clone")
    changed = client.post(
        f"/v1/jobs/{original}/clone",
        content="name: gentler\ntraining: {learning_rate: 1.0e-7}",
        headers={"content-type": "application/yaml"},
        params={"priority": 4},
    )

    first, second = same.json(), changed.json()
    source = client.get(f"/v1/jobs/{original}").json()
    assert (same.status_code, changed.status_code) == (201, 201)
    assert same.headers["location"] == f"/v1/jobs/{first['id']}"
    assert (first["spec_digest"], first["cloned_from_id"]) == (source["spec_digest"], original)
    assert (second["name"], second["priority"], second["spec"]["seed"]) == ("gentler", 4, 3)
    assert second["spec"]["training"]["learning_rate"] == 1e-7
    assert len({original, first["id"], second["id"]}) == 3


def test_a_repeated_clone_with_one_key_is_one_job(client: TestClient) -> None:
    url, headers = f"/v1/jobs/{submit(client)}/clone", {"Idempotency-Key": "k"}

    ids = {client.post(url, headers=headers).json()["id"] for _ in range(2)}

    assert len(ids) == 1


@pytest.mark.parametrize(
    ("overrides", "pointer"),
    [
        ({"training": {"learning_rate": "fast"}}, "/training/learning_rate"),
        ({"target": {"model": {"hub": None, "revision": None, "path": "/etc"}}}, "/target/model/path"),
        ({"training": {"learning_rat": 1.0}}, "/training/learning_rat"),
        ({"api_version": None}, "/api_version"),
        ({"sources": None}, "/sources"),
        ({"training": 1}, "/training"),
        ([], ""),
        ({"a": {"b": [1] * 60_000}}, ""),
    ],
)
def test_a_clone_is_checked_like_a_submission(client: TestClient, overrides: Any, pointer: str) -> None:
    refused = client.post(f"/v1/jobs/{submit(client)}/clone", json=overrides)

    assert (refused.status_code, refused.json()["code"]) in {(422, "spec_invalid"), (422, "path_not_allowed")}
    assert refused.json()["errors"][0]["pointer"] == pointer
    assert refused.json()["hint"]


def test_changes_are_a_merge_patch(client: TestClient) -> None:
    """RFC 7396: null takes back, objects merge, lists do not."""
    training = {"max_steps": 7, "learning_rate": 1e-3}
    original = client.post("/v1/jobs", json=given.spec_data(training=training)).json()["id"]
    source = {"name": "other", "model": {"hub": "org/other", "revision": given.REVISION}}
    patch = {"training": {"max_steps": None, "num_epochs": 2}, "sources": [source]}

    made = client.post(
        f"/v1/jobs/{original}/clone",
        content=json.dumps(patch),
        headers={"content-type": "application/merge-patch+json"},
    )

    spec = made.json()["spec"]
    assert made.status_code == 201
    assert (spec["training"]["max_steps"], spec["training"]["num_epochs"]) == (None, 2)
    assert spec["training"]["learning_rate"] == 1e-3
    assert [one["name"] for one in spec["sources"]] == ["other"]


def test_a_priority_is_given_and_changed(client: TestClient) -> None:
    job = client.post("/v1/jobs", json=given.spec_data(), params={"priority": -3}).json()

    changed = client.patch(f"/v1/jobs/{job['id']}", json={"priority": 7})

    assert (job["priority"], changed.json()["priority"]) == (-3, 7)


@pytest.mark.parametrize("change", [{"priority": 11}, {"priority": "high"}, {}, {"status": "succeeded"}])
def test_what_cannot_be_changed(client: TestClient, change: dict[str, Any]) -> None:
    assert client.patch(f"/v1/jobs/{submit(client)}", json=change).status_code == 422
