"""Lock, report and card of a job, from what its steps stored."""

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.artifacts.kinds import ArtifactKind
from app.artifacts.service import Origin, publish_folder
from app.db.session import in_transaction
from app.jobs import service
from app.settings import Settings
from app.storage.opening import open_store
from fusion.io.manifest import write_manifest
from tests.app.jobs import builders as given

MODELS = {"target": {"digest": "d1", "revision": given.REVISION}, "mpt": {"digest": "d2"}}
REPORT = {"overall": {"documents": 3}, "unit": "bits per byte, lower is better"}
CARD = "---\nlicense: mit\n---\n\n# small — fused\n"
STORED: dict[str, tuple[ArtifactKind, str, str]] = {
    "prepare": (ArtifactKind.OUTPUT, "models.json", json.dumps(MODELS)),
    "evaluate": (ArtifactKind.OUTPUT, "report.json", json.dumps(REPORT)),
    "publish": (ArtifactKind.MODEL, "README.md", CARD),
}


@pytest.fixture
def job_id(client: TestClient) -> str:
    created: str = client.post("/v1/jobs", json=given.spec_data()).json()["id"]
    return created


def run(engine: Engine, settings: Settings, folder: Path, *, until: str | None = None) -> None:
    """Run the job, storing what its steps store, up to and without a step."""
    while (step := given.try_claim(engine)) is not None and step.stage != until:
        kind, name, text = STORED.get(step.stage, (ArtifactKind.OUTPUT, "data", step.name))
        out = folder / step.name
        out.mkdir()
        (out / name).write_text(text)
        write_manifest(out, kind=step.stage, meta={"corpus_digest": "c1", "num_bytes": 7})
        origin = Origin(
            project_id=step.project_id,
            job_id=step.job_id,
            step_id=step.step_id,
            attempt=step.attempt,
            kind=kind,
            role=step.name,
        )
        artifact_id = publish_folder(engine, open_store(settings.storage_url), out, origin=origin)
        assert artifact_id is not None
        fence = {"step_id": step.step_id, "attempt": step.attempt}
        in_transaction(engine, service.complete_step, **fence, artifact_id=artifact_id, figures={})


def ask(client: TestClient, job_id: str, document: str) -> tuple[int, Any]:
    answer = client.get(f"/v1/jobs/{job_id}/{document}")
    return answer.status_code, answer.json()


def test_a_finished_job_has_all_three(
    client: TestClient, engine: Engine, settings: Settings, tmp_path: Path, job_id: str
) -> None:
    run(engine, settings, tmp_path)

    _, lock = ask(client, job_id, "lock")
    status, report = ask(client, job_id, "report")
    card = client.get(f"/v1/jobs/{job_id}/card")

    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (lock["spec"], lock["spec_digest"], lock["seed"]) == (job["spec"], job["spec_digest"], 0)
    assert (lock["models"], lock["corpus"]["digest"], lock["corpus"]["num_bytes"]) == (MODELS, "c1", 7)
    assert set(lock["outputs"]) == {step["name"] for step in steps_of(client, job_id)}
    assert (status, report) == (200, {"object": "job_report", "job_id": job_id, **REPORT})
    assert (card.text, card.headers["content-type"]) == (CARD, "text/markdown; charset=utf-8")


def steps_of(client: TestClient, job_id: str) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = client.get(f"/v1/jobs/{job_id}/steps").json()["data"]
    return steps


def test_what_is_not_there_yet_is_a_conflict_that_names_the_step(
    client: TestClient, engine: Engine, settings: Settings, tmp_path: Path, job_id: str
) -> None:
    early = [ask(client, job_id, name) for name in ("lock", "report", "card")]
    run(engine, settings, tmp_path, until="evaluate")
    later = [ask(client, job_id, name)[0] for name in ("lock", "report", "card")]

    assert [(status, problem["code"]) for status, problem in early] == [
        (409, "lock_not_ready"),
        (409, "report_not_ready"),
        (409, "card_not_ready"),
    ]
    assert "'prepare'" in early[0][1]["hint"]
    assert later == [200, 409, 409]


def test_a_job_that_ended_without_it_has_none(client: TestClient, engine: Engine, job_id: str) -> None:
    given.fail(engine, given.claim(engine), given.USER_ERROR)

    for name in ("lock", "report", "card"):
        status, problem = ask(client, job_id, name)

        assert (status, problem["code"]) == (404, f"{name}_not_found")
        assert problem["hint"]


def test_every_attempt_of_every_step_is_listed(client: TestClient, engine: Engine, job_id: str) -> None:
    first = given.claim(engine)
    given.fail(engine, first, given.NETWORK_ERROR)
    given.make_ready_now(engine)
    given.complete(engine, given.claim(engine, worker_id="worker-2"))
    given.claim(engine)
    url = f"/v1/jobs/{job_id}/attempts"

    attempts = client.get(url).json()["data"]
    of_prepare = client.get(url, params={"step": "prepare"}).json()["data"]
    of_nothing = client.get(url, params={"step": "nope"})

    told = [(one["step"], one["number"], one["worker_id"], one["outcome"]) for one in attempts]
    assert told == [
        ("prepare", 1, "worker-1", "failed"),
        ("prepare", 2, "worker-2", "succeeded"),
        ("extract.target", 1, "worker-1", "running"),
    ]
    assert (attempts[0]["error"]["code"], attempts[0]["reason"]) == ("hub_unreachable", "hub_unreachable")
    assert attempts[0]["id"] == f"{first.step_id}:1"
    assert attempts[0]["ended_at"] >= attempts[0]["started_at"]
    assert (attempts[1]["error"], attempts[2]["ended_at"]) == (None, None)
    assert of_prepare == attempts[:2]
    assert (of_nothing.status_code, of_nothing.json()["code"]) == (404, "step_not_found")
