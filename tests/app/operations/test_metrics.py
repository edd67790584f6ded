"""`/metrics`: what Prometheus reads of the service, on both databases."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine

from tests.app.jobs import builders as given

PAGE = Path(__file__).parents[3] / "docs" / "operations.md"


def samples(client: TestClient) -> dict[tuple[str, ...], float]:
    """Values by name and labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_an_idle_service_tells_zeros(client: TestClient) -> None:
    told = samples(client)

    assert told["fusion_ready", "database"] == told["fusion_ready", "work"] == 1
    assert told["fusion_jobs", "running"] == told["fusion_steps", "gpu", "claimable"] == 0
    assert told["fusion_workers", "cpu", "idle"] == told["fusion_oldest_step_seconds", "gpu"] == 0
    assert told["fusion_attempts_ended_total", "lost"] == told["fusion_housekeeping", "webhook"] == 0
    assert told["fusion_stored_bytes", "artifact"] == 0


def test_jobs_steps_workers_and_attempts_are_counted(client: TestClient, engine: Engine) -> None:
    project_id = given.make_project(engine)
    jobs = [given.submit(engine, project_id) for _ in range(3)]
    step = given.claim(engine, worker_id="busy")
    other = given.claim(engine, worker_id="idle")
    given.fail(engine, other, {"code": "x", "category": "user", "message": "m", "retryable": False})

    told = samples(client)

    assert (
        told["fusion_jobs", "running"] == told["fusion_jobs", "failed"] == told["fusion_jobs", "queued"] == 1
    )
    assert told["fusion_steps", "cpu", "running"] == 1
    assert told["fusion_steps", "cpu", "claimable"] == 1
    assert told["fusion_oldest_step_seconds", "cpu"] > 0
    assert told["fusion_workers", "cpu", "busy"] == told["fusion_workers", "cpu", "idle"] == 1
    assert told["fusion_attempts_ended_total", "failed"] == 1
    text = client.get("/metrics").text
    ids = [project_id, step.step_id, *(job.id for job in jobs)]
    assert [one for one in ids if one in text] == []


def test_it_is_for_operators(client: TestClient) -> None:
    key = client.post("/v1/api_keys", json={"name": "admin", "scopes": ["admin"]}).json()["secret"]

    refused = client.get("/metrics", headers={"Authorization": f"Bearer {key}"})
    nobody = TestClient(client.app).get("/metrics")

    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    assert nobody.status_code == 401


def test_the_page_lists_what_is_told(client: TestClient) -> None:
    listed = set(re.findall(r"^\| `(fusion_\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))

    assert listed == {name for name, *_ in samples(client)}


@pytest.mark.parametrize("outcome", ["succeeded", "lost", "failed"])
def test_an_alert_finds_every_outcome(client: TestClient, outcome: str) -> None:
    assert ("fusion_attempts_ended_total", outcome) in samples(client)
