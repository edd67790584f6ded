"""A checkpoint becomes a model of the same bytes, once, and the model outlives the checkpoint."""

import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text, update
from transformers import AutoModelForCausalLM

from app.artifacts.garbage import drop_finished_parts, drop_purged_artifacts, sweep_blobs
from app.checkpoints.reading_room import MAX_AT_ONCE, place_to_read
from app.db.base import db_time
from app.db.models import Job, Step
from app.db.session import read_only, transaction
from app.storage.store import ObjectStore, blob_key
from tests.fusion.training.runs import TrainingCase
from tests.support.stored_checkpoints import publish_checkpoint, store_checkpoint, training_step


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """A running training, and whoever asks about it."""

    client: TestClient
    engine: Engine
    store: ObjectStore
    step: Step
    folder: Path

    def checkpoint(self, number: int, *, loss: float | None = None) -> str:
        folder = self.folder / f"step-{number:08d}"
        return store_checkpoint(self.engine, self.store, self.step, folder, number=number, loss=loss)

    def checkpoints(self) -> list[dict[str, Any]]:
        answer = self.client.get(f"/v1/jobs/{self.step.job_id}/checkpoints")
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"])

    def promote(self, checkpoint_id: str, **body: str) -> Any:
        return self.client.post(f"/v1/checkpoints/{checkpoint_id}/promote", json=body)

    def succeed(self) -> None:
        """The training ends, and its parts are collected."""
        with transaction(self.engine) as session:
            session.execute(update(Step).where(Step.id == self.step.id).values(status="succeeded"))
        drop_finished_parts(self.engine, self.store, failed_kept_seconds=0)
        sweep_blobs(self.engine, self.store, grace_seconds=0)

    def files_of(self, model: dict[str, Any]) -> dict[str, bytes]:
        manifest = self.client.get(f"/v1/models/{model['id']}/manifest").json()
        contents = {file["path"]: self.client.get(file["content_url"]) for file in manifest["files"]}
        assert {answer.status_code for answer in contents.values()} == {200}
        return {path: answer.content for path, answer in contents.items()}


@pytest.fixture
def training(client: TestClient, engine: Engine, tmp_path: Path) -> Training:
    store: ObjectStore = client.app.state.store  # type: ignore[attr-defined]
    return Training(
        client=client, engine=engine, store=store, step=training_step(engine), folder=tmp_path / "out"
    )


def test_checkpoints_are_listed_with_what_they_are_to_their_training(training: Training) -> None:
    numbers = {2: 3.0, 4: 1.5, 6: 2.0}
    ids = [training.checkpoint(number, loss=loss) for number, loss in numbers.items()]

    listed = training.checkpoints()
    one = training.client.get(f"/v1/checkpoints/{ids[1]}").json()

    assert [item["id"] for item in listed] == ids
    assert [item["step"] for item in listed] == [2, 4, 6]
    assert [item["is_best"] for item in listed] == [False, True, False]
    assert [item["is_last"] for item in listed] == [False, False, True]
    assert {item["is_resumable"] and item["is_promotable"] for item in listed} == {True}
    assert listed[1]["metrics"] == {"loss": 1.5}
    assert {name: value for name, value in one.items() if name != "files"} == listed[1]
    assert "model/model.safetensors" in [file["path"] for file in one["files"]]


def test_a_promoted_model_has_the_files_of_the_checkpoint_and_outlives_it(training: Training) -> None:
    checkpoint_id = training.checkpoint(4, loss=1.5)

    made = training.promote(checkpoint_id)
    again = training.promote(checkpoint_id, name="another")
    training.succeed()
    after = training.promote(checkpoint_id)

    assert (made.status_code, again.status_code, after.status_code) == (201, 200, 200)
    assert made.json() == again.json() == after.json()
    model = made.json()
    assert (model["name"], model["checkpoint_id"]) == ("wise-step-4", checkpoint_id)
    assert made.headers["Location"] == f"/v1/models/{model['id']}"
    assert training.checkpoints() == []
    files = training.files_of(model)
    assert files["model.safetensors"] == b"weights after 4"
    assert set(files) == {
        "README.md",
        "config.json",
        "fusion_spec.json",
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
    }
    assert "| loss | 1.5 |" in files["README.md"].decode()
    assert "/models/" not in files["README.md"].decode()
    info = training.client.get(f"/api/models/default/{model['name']}").json()
    assert info["_id"] == model["id"]


def test_a_promoted_model_is_not_the_result_of_its_job(training: Training) -> None:
    training.promote(training.checkpoint(2))

    job = training.client.get(f"/v1/jobs/{training.step.job_id}").json()
    events = training.client.get(f"/v1/jobs/{training.step.job_id}/events").json()["data"]

    assert (job["model_id"], job["artifact_id"]) == (None, None)
    assert [event["type"] for event in events] == ["checkpoint_promoted"]


def test_an_earlier_release_does_not_take_a_promoted_model_for_the_one_that_it_publishes(
    training: Training,
) -> None:
    job_id = training.step.job_id
    made = {training.promote(training.checkpoint(number)).json()["id"] for number in (2, 4)}

    with read_only(training.engine) as session:
        # Word for word what its worker asks before it registers what it published.
        found = session.execute(text("SELECT id FROM models WHERE job_id = :job"), {"job": job_id}).all()
    listed = training.client.get("/v1/models", params={"job_id": job_id}).json()["data"]

    assert found == []
    assert {model["id"] for model in listed} == made
    assert {model["job_id"] for model in listed} == {job_id}


def test_webhooks_tell_of_a_promoted_model_once(training: Training) -> None:
    receiver = {"url": "https://example.com/hook", "event_types": ["fusion.model.created"]}
    endpoint = training.client.post("/v1/webhook_endpoints", json=receiver).json()
    checkpoint_id = training.checkpoint(2)

    model, again = (training.promote(checkpoint_id).json() for _ in range(2))

    told = training.client.get(f"/v1/webhook_endpoints/{endpoint['id']}/deliveries").json()["data"]
    assert [delivery["type"] for delivery in told] == ["fusion.model.created"]
    assert model == again


def test_promotions_at_one_moment_make_one_model(training: Training) -> None:
    checkpoint_id = training.checkpoint(2)
    barrier, answers = threading.Barrier(4), []

    def promote() -> None:
        barrier.wait()
        answers.append(training.promote(checkpoint_id))

    threads = [threading.Thread(target=promote) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_a_model_stays_when_its_job_is_purged_and_comes_back_after_its_removal(training: Training) -> None:
    checkpoint_id = training.checkpoint(2)
    first = training.promote(checkpoint_id).json()
    training.client.delete(f"/v1/models/{first['id']}")
    second = training.promote(checkpoint_id).json()
    training.succeed()
    with transaction(training.engine) as session:
        purged = {"status": "succeeded", "purged_at": db_time(), "deleted_at": db_time()}
        session.execute(update(Job).where(Job.id == training.step.job_id).values(**purged))
    drop_purged_artifacts(training.engine, training.store)
    sweep_blobs(training.engine, training.store, grace_seconds=0)

    assert first["id"] != second["id"]
    assert training.files_of(second)["model.safetensors"] == b"weights after 2"


def test_promotions_leave_threads_for_other_requests(training: Training) -> None:
    checkpoint_id = training.checkpoint(2)

    with ExitStack() as others:
        for _ in range(MAX_AT_ONCE):
            others.enter_context(place_to_read())
        refused = training.promote(checkpoint_id)

    assert (refused.status_code, refused.json()["code"]) == (503, "too_many_promotions")
    assert refused.headers["Retry-After"]
    assert training.promote(checkpoint_id).status_code == 201


def test_a_checkpoint_that_is_gone_is_refused(training: Training) -> None:
    checkpoint_id = training.checkpoint(2)
    training.succeed()

    answer = training.promote(checkpoint_id)

    assert (answer.status_code, answer.json()["code"]) == (404, "checkpoint_not_found")
    assert "/checkpoints" in answer.json()["hint"]


@pytest.mark.parametrize("damage", [b"weights after 3", None])
def test_a_damaged_checkpoint_is_refused(training: Training, damage: bytes | None) -> None:
    checkpoint_id = training.checkpoint(2)
    files = training.client.get(f"/v1/checkpoints/{checkpoint_id}").json()["files"]
    sha256 = next(file["sha256"] for file in files if file["path"] == "model/model.safetensors")
    key = blob_key(project_id=training.step.project_id, sha256=sha256)
    blob = next(training.folder.parent.rglob(f"storage/**/{key}"))
    blob.unlink()
    if damage is not None:
        blob.write_bytes(damage)

    answer = training.promote(checkpoint_id)

    assert (answer.status_code, answer.json()["code"]) == (409, "checkpoint_damaged")
    assert training.client.get("/v1/models").json()["data"] == []


def test_a_checkpoint_of_an_earlier_release_is_refused(training: Training) -> None:
    folder = training.folder / "step-00000002"
    from fusion.io.manifest import write_manifest

    folder.mkdir(parents=True)
    (folder / "model-00000.safetensors").write_bytes(b"weights")
    write_manifest(folder, kind="checkpoint", meta={"step": 2, "config_digest": "x"})
    checkpoint_id = publish_checkpoint(training.engine, training.store, training.step, folder)

    answer = training.promote(checkpoint_id)

    assert training.checkpoints()[0]["is_promotable"] is False
    assert (answer.status_code, answer.json()["code"]) == (409, "checkpoint_not_promotable")


def test_what_a_real_training_left_is_a_model_that_transformers_loads(
    training: Training, tmp_path: Path
) -> None:
    case = TrainingCase(tmp_path, max_steps=2)
    case.run("trained")
    folder = tmp_path / "trained/checkpoints/step-00000002"
    checkpoint_id = publish_checkpoint(training.engine, training.store, training.step, folder)

    model = training.promote(checkpoint_id).json()

    (tmp_path / "fetched").mkdir()
    for name, data in training.files_of(model).items():
        (tmp_path / "fetched" / name).write_bytes(data)
    loaded, trained = (
        AutoModelForCausalLM.from_pretrained(path).state_dict()
        for path in (tmp_path / "fetched", tmp_path / "trained/model")
    )
    assert loaded.keys() == trained.keys()
    assert all(torch.equal(loaded[name], trained[name]) for name in trained)
