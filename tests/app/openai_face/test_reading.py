"""Jobs, events, checkpoints and result files as OpenAI's clients read them, on both databases."""

import csv
import io
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.db.session import in_transaction
from app.jobs import service
from tests.app.jobs import builders as given
from tests.app.openai_face.finished_jobs import NUM_TOKENS, run_to_end

PATH = "/v1/fine_tuning/jobs"
FIELDS = {
    *("id", "object", "created_at", "finished_at", "status", "error", "model", "fine_tuned_model"),
    *("organization_id", "training_file", "validation_file", "result_files", "trained_tokens", "seed"),
    *("estimated_finish", "hyperparameters", "method", "integrations", "metadata"),
}


def test_a_job_from_its_first_to_its_last_event(client: TestClient, engine: Engine) -> None:
    body = {"fusion": given.spec_data(name="whole", evaluation={"control": True}), "metadata": {"run": "1"}}
    job_id = client.post(PATH, json=body).json()["id"]
    client.post("/v1/jobs", json=given.spec_data(name="native"))
    run_to_end(engine, job_id)

    job = client.get(f"{PATH}/{job_id}").json()
    assert job.keys() >= FIELDS
    assert (job["status"], job["error"], job["metadata"]) == ("succeeded", None, {"run": "1"})
    assert job["trained_tokens"] == 2 * NUM_TOKENS
    assert job["finished_at"] >= job["created_at"]
    assert job["fine_tuned_model"].startswith("model-")

    check_events(client, job_id)
    check_result_file(client, job)
    check_lists(client, job_id)


def check_events(client: TestClient, job_id: str) -> None:
    whole = client.get(f"{PATH}/{job_id}/events", params={"limit": 1000}).json()
    assert whole["has_more"] is False
    paged: list[dict[str, Any]] = []
    while True:
        after = {"after": paged[-1]["id"]} if paged else {}
        page = client.get(f"{PATH}/{job_id}/events", params={"limit": 3, **after}).json()
        paged += page["data"]
        if not page["has_more"]:
            break

    native = client.get(f"/v1/jobs/{job_id}/events", params={"order": "desc", "limit": 100}).json()["data"]
    points = client.get(f"/v1/jobs/{job_id}/metrics", params={"format": "ndjson"}).text.splitlines()
    assert paged == whole["data"]
    assert [item["id"] for item in paged if item["type"] == "message"] == [item["id"] for item in native]
    assert len([item for item in paged if item["type"] == "metrics"]) == len(points) > 0
    assert paged[-1]["data"]["event"] == "job_submitted"
    metrics = next(
        item for item in paged if item["type"] == "metrics" and item["data"]["run"] == "train.fused"
    )
    assert (metrics["data"]["step"], metrics["data"]["train_loss"]) == (4, 2.0)
    assert {item["level"] for item in paged} == {"info"}
    unknown = client.get(f"{PATH}/{job_id}/events", params={"after": "evt-1"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "cursor_not_found")


def check_result_file(client: TestClient, job: dict[str, Any]) -> None:
    (file_id,) = job["result_files"]
    shown, content = client.get(f"/v1/files/{file_id}").json(), client.get(f"/v1/files/{file_id}/content")
    rows = list(csv.DictReader(io.StringIO(content.text)))
    head = client.head(f"/v1/files/{file_id}/content")
    kept = client.get(f"/v1/files/{file_id}/content", headers={"If-None-Match": content.headers["etag"]})
    part = client.get(f"/v1/files/{file_id}/content", headers={"Range": "bytes=5-9"})
    removal = client.delete(f"/v1/files/{file_id}")

    assert (shown["purpose"], shown["bytes"], shown["num_records"]) == (
        "fine-tune-results",
        len(content.content),
        2,
    )
    assert content.headers["etag"] == f'"{shown["sha256"]}"'
    assert list(rows[0]) == ["step", "train_loss", "grad_norm", "control_grad_norm", "control_train_loss"]
    assert [row["step"] for row in rows] == ["2", "4"]
    assert [row["train_loss"] for row in rows] == ["3.0", "2.0"]
    assert rows[1]["grad_norm"] == ""
    assert (head.status_code, head.headers["content-length"]) == (200, str(shown["bytes"]))
    assert (kept.status_code, kept.content) == (304, b"")
    assert (part.status_code, part.content) == (206, content.content[5:10])
    assert (removal.status_code, removal.json()["code"]) == (409, "file_of_job")
    assert job["id"] in removal.json()["hint"]


def check_lists(client: TestClient, job_id: str) -> None:
    def ids(**parameters: Any) -> list[str]:
        return [item["suffix"] for item in client.get(PATH, params=parameters).json()["data"]]

    assert ids() == ["native", "whole"]
    assert ids(after=client.get(PATH).json()["data"][0]["id"]) == ["whole"]
    assert ids(limit=1) == ["native"]
    assert ids(limit=100_000, order="sideways", unheard_of=1) == ["native", "whole"]
    assert ids(**{"metadata[run]": "1"}) == ["whole"]
    assert ids(**{"metadata[run]": "2"}) == []
    assert ids(metadata="null") == ["native"]
    assert client.get(PATH, params={"after": "evt-1"}).json()["code"] == "cursor_invalid"
    assert client.get(PATH, params={"limit": 0}).status_code == 422


def test_actions_and_failures(client: TestClient, engine: Engine) -> None:
    job_id = client.post(PATH, json={"fusion": given.spec_data()}).json()["id"]

    def act(verb: str) -> Any:
        return client.post(f"{PATH}/{job_id}/{verb}").json()["status"]

    assert [act("pause"), act("pause"), act("resume"), act("resume")] == [
        "paused",
        "paused",
        "queued",
        "queued",
    ]
    step = given.claim(engine)
    assert [act("pause"), act("resume")] == ["running", "running"]
    given.fail(engine, step, given.USER_ERROR)
    failed = client.get(f"{PATH}/{job_id}").json()
    refused = client.post(f"{PATH}/{job_id}/pause")
    levels = [item["level"] for item in client.get(f"{PATH}/{job_id}/events").json()["data"]]

    assert (failed["status"], failed["result_files"], failed["trained_tokens"]) == ("failed", [], None)
    assert failed["error"] == {
        "code": "json_broken",
        "message": "line 3 is not JSON",
        "param": None,
        "hint": "mend line 3",
    }
    assert levels[:2] == ["error", "error"]
    assert (refused.status_code, refused.json()["code"]) == (409, "job_finished")
    assert refused.headers["x-should-retry"] == "false"
    assert act("cancel") == "failed"


def test_a_cancelled_job_runs_until_it_has_stopped(client: TestClient, engine: Engine) -> None:
    job_id = client.post(PATH, json={"fusion": given.spec_data()}).json()["id"]
    step = given.claim(engine)
    stopping = client.post(f"{PATH}/{job_id}/cancel").json()["status"]
    in_transaction(engine, service.confirm_cancelled, step_id=step.step_id, attempt=step.attempt)

    assert (stopping, client.get(f"{PATH}/{job_id}").json()["status"]) == ("running", "cancelled")


def test_checkpoints_of_trainings(client: TestClient, engine: Engine) -> None:
    job_id = client.post(PATH, json={"fusion": given.spec_data()}).json()["id"]
    while (step := given.claim(engine)).stage != "train":
        given.store_artifact(engine, step, kind="checkpoint", role="packs/1")
        given.complete(engine, step)
    for number, loss in ((10, 3.0), (20, 2.0)):
        meta, role = {"step": number, "metrics": {"loss": loss}}, f"checkpoints/step-{number:08d}"
        given.store_artifact(engine, step, kind="checkpoint", role=role, meta=meta)

    first = client.get(f"{PATH}/{job_id}/checkpoints", params={"limit": 1}).json()
    second = client.get(f"{PATH}/{job_id}/checkpoints", params={"after": first["data"][0]["id"]}).json()

    assert (first["has_more"], second["has_more"]) == (True, False)
    shown = [*first["data"], *second["data"]]
    assert [(item["step_number"], item["metrics"]["train_loss"]) for item in shown] == [(20, 2.0), (10, 3.0)]
    assert {item["fine_tuning_job_id"] for item in shown} == {job_id}
    assert [item["fine_tuned_model_checkpoint"] for item in shown] == [item["id"] for item in shown]


@pytest.mark.parametrize("path", ["", "/events", "/checkpoints"])
def test_a_job_that_is_not_there(client: TestClient, path: str) -> None:
    answer = client.get(f"{PATH}/job-06f3k9x2q4v8t1m7c5b0z6n3ha{path}")

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found")
