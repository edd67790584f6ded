"""A checkpoint becomes a model of the same bytes, once, and the model outlives the checkpoint."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from sqlalchemy import Engine, delete, select, text, update
from transformers import AutoModelForCausalLM

from app.artifacts.garbage import drop_finished_parts, drop_purged_artifacts, sweep_blobs
from app.checkpoints.promoter import Promoter
from app.db.base import db_time
from app.db.models import Artifact, ArtifactFile, Job, Model, Promotion, Step
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

    def ask(self, checkpoint_id: str, **body: str) -> Any:
        return self.client.post(f"/v1/checkpoints/{checkpoint_id}/promote", json=body)

    def promotion(self, checkpoint_id: str) -> dict[str, Any]:
        answer = self.client.get(f"/v1/checkpoints/{checkpoint_id}/promotion")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def keep_house(self, **options: float) -> int:
        """One round of whoever makes models of checkpoints."""
        return Promoter(self.engine, self.store, **options).run_once()

    def promote(self, checkpoint_id: str) -> dict[str, Any]:
        """The model, made of a checkpoint that is sound."""
        asked = self.ask(checkpoint_id)
        assert asked.status_code in (200, 202), asked.text
        self.keep_house()
        model_id = self.promotion(checkpoint_id)["model_id"]
        return dict(self.client.get(f"/v1/models/{model_id}").json())

    def replace_weights(self, checkpoint_id: str, data: bytes | None) -> None:
        """Put other bytes in the place of the stored ones, or none."""
        files = self.client.get(f"/v1/checkpoints/{checkpoint_id}").json()["files"]
        sha256 = next(file["sha256"] for file in files if file["path"] == "model/model.safetensors")
        blobs = next(self.folder.parent.rglob("storage/blobs"))
        blob = blobs.parent / blob_key(project_id=self.step.project_id, sha256=sha256)
        blob.unlink(missing_ok=True)
        if data is not None:
            blob.write_bytes(data)

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


def test_a_promotion_is_asked_for_executed_and_read(training: Training) -> None:
    checkpoint_id = training.checkpoint(4, loss=1.5)

    asked = training.ask(checkpoint_id)
    again = training.ask(checkpoint_id, name="another")
    before = training.client.get("/v1/models").json()["data"]
    num_made = training.keep_house()
    after = training.ask(checkpoint_id)

    assert (asked.status_code, again.status_code, after.status_code) == (202, 202, 200)
    assert asked.json() == again.json()
    assert (asked.json()["status"], asked.json()["num_bytes_read"]) == ("queued", 0)
    assert asked.headers["Location"] == f"/v1/checkpoints/{checkpoint_id}/promotion"
    assert (before, num_made) == ([], 1)
    done = training.promotion(checkpoint_id)
    assert done == after.json()
    assert (done["status"], done["error"], done["name"]) == ("succeeded", None, "wise-step-4")
    assert done["num_bytes_read"] == done["num_bytes"] > 0
    assert training.keep_house() == 0


def test_a_promoted_model_has_the_files_of_the_checkpoint_and_outlives_it(training: Training) -> None:
    checkpoint_id = training.checkpoint(4, loss=1.5)

    model = training.promote(checkpoint_id)
    training.succeed()

    assert training.promote(checkpoint_id) == model
    assert (model["name"], model["checkpoint_id"]) == ("wise-step-4", checkpoint_id)
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


def test_a_checkpoint_may_go_as_soon_as_its_promotion_was_asked_for(training: Training) -> None:
    checkpoint_id = training.checkpoint(2)

    training.ask(checkpoint_id)
    training.succeed()
    purge(training)
    model = training.promote(checkpoint_id)

    assert training.files_of(model)["model.safetensors"] == b"weights after 2"


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
    made = {training.promote(training.checkpoint(number))["id"] for number in (2, 4)}

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

    model, again = (training.promote(checkpoint_id) for _ in range(2))

    told = training.client.get(f"/v1/webhook_endpoints/{endpoint['id']}/deliveries").json()["data"]
    assert [delivery["type"] for delivery in told] == ["fusion.model.created"]
    assert model == again


def test_promotions_at_one_moment_make_one_model(training: Training) -> None:
    checkpoint_id = training.checkpoint(2)

    asked = at_one_moment(lambda: training.ask(checkpoint_id))
    made = at_one_moment(training.keep_house)

    assert [answer.status_code for answer in asked] == [202] * 4
    assert sum(made) == 1
    assert [model["checkpoint_id"] for model in training.client.get("/v1/models").json()["data"]] == [
        checkpoint_id
    ]


def test_a_model_stays_when_its_job_is_purged_and_comes_back_after_its_removal(training: Training) -> None:
    checkpoint_id = training.checkpoint(2)
    first = training.promote(checkpoint_id)
    training.client.delete(f"/v1/models/{first['id']}")
    forgotten = training.client.get(f"/v1/checkpoints/{checkpoint_id}/promotion")
    second = training.promote(checkpoint_id)
    training.succeed()
    purge(training)

    assert (forgotten.status_code, forgotten.json()["code"]) == (404, "promotion_not_found")
    assert first["id"] != second["id"]
    assert training.files_of(second)["model.safetensors"] == b"weights after 2"


def test_who_died_over_a_promotion_is_replaced_and_has_no_say_any_more(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint_id = training.checkpoint(2)
    training.ask(checkpoint_id)
    open_range, made_meanwhile = training.store.open_range, []

    def frozen(key: str, *, start: int, end: int) -> Iterator[bytes]:
        """Reads on only after somebody else has finished."""
        monkeypatch.setattr(training.store, "open_range", open_range)
        made_meanwhile.append(training.keep_house())
        return open_range(key, start=start, end=end)

    monkeypatch.setattr(training.store, "open_range", frozen)
    made_by_the_frozen = training.keep_house(lease_seconds=-1)

    assert (made_meanwhile, made_by_the_frozen) == ([1], 0)
    assert len(training.client.get("/v1/models").json()["data"]) == 1
    assert training.promotion(checkpoint_id)["status"] == "succeeded"


def test_one_that_is_held_is_left_alone_until_its_lease_ends(training: Training) -> None:
    checkpoint_id = training.checkpoint(2)
    training.ask(checkpoint_id)
    held(training, seconds=60)

    left_alone, shown = training.keep_house(), training.promotion(checkpoint_id)["status"]
    held(training, seconds=-1)

    assert (left_alone, shown, training.keep_house()) == (0, "running", 1)


def test_an_interrupted_promotion_begins_again_elsewhere(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint_id = training.checkpoint(2)
    training.ask(checkpoint_id)
    promoter, open_range = Promoter(training.engine, training.store), training.store.open_range

    def interrupted(key: str, *, start: int, end: int) -> Iterator[bytes]:
        promoter.interrupt()
        return open_range(key, start=start, end=end)

    with monkeypatch.context() as patch:
        patch.setattr(training.store, "open_range", interrupted)
        assert promoter.run_once() == 0

    assert training.promotion(checkpoint_id)["status"] == "queued"
    assert training.keep_house() == 1


def test_a_model_of_an_earlier_release_is_a_promotion_that_is_done(training: Training) -> None:
    checkpoint_id = training.checkpoint(2)
    model = training.promote(checkpoint_id)
    with transaction(training.engine) as session:
        session.execute(text("DELETE FROM promotions"))

    asked = training.ask(checkpoint_id)

    assert (asked.status_code, asked.json()["model_id"]) == (200, model["id"])
    assert training.promotion(checkpoint_id) == asked.json()


def test_an_earlier_release_may_be_quicker(training: Training) -> None:
    checkpoint_id = training.checkpoint(2)
    training.ask(checkpoint_id)
    with transaction(training.engine) as session:
        asked = session.scalars(select(Promotion)).one()
        quicker = {"checkpoint_id": checkpoint_id, "checkpoint_job_id": asked.job_id, "name": "quicker"}
        session.add(Model(project_id=asked.project_id, artifact_id=asked.artifact_id, **quicker))
    training.keep_house()

    [model] = training.client.get("/v1/models").json()["data"]
    assert (model["name"], training.promotion(checkpoint_id)["model_id"]) == ("quicker", model["id"])


def at_one_moment(call: Callable[[], Any]) -> list[Any]:
    """What four threads got that began together."""
    barrier, answers = threading.Barrier(4), []

    def run() -> None:
        barrier.wait()
        answers.append(call())

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def held(training: Training, *, seconds: float) -> None:
    """Somebody reads, whose lease ends in so many seconds."""
    with transaction(training.engine) as session:
        session.execute(update(Promotion).values(status="running", leased_until=db_time(seconds)))


def purge(training: Training) -> None:
    """The job is removed for good, and its garbage collected."""
    with transaction(training.engine) as session:
        purged = {"status": "succeeded", "purged_at": db_time(), "deleted_at": db_time()}
        session.execute(update(Job).where(Job.id == training.step.job_id).values(**purged))
    drop_purged_artifacts(training.engine, training.store)
    sweep_blobs(training.engine, training.store, grace_seconds=0)


def test_a_checkpoint_that_is_gone_is_refused(training: Training) -> None:
    checkpoint_id = training.checkpoint(2)
    training.succeed()

    answer = training.ask(checkpoint_id)

    assert (answer.status_code, answer.json()["code"]) == (404, "checkpoint_not_found")
    assert "/checkpoints" in answer.json()["hint"]


@pytest.mark.parametrize("damage", [b"weights after 3", None])
def test_a_damaged_checkpoint_is_no_model_until_it_is_mended(
    training: Training, damage: bytes | None
) -> None:
    checkpoint_id = training.checkpoint(2)
    training.replace_weights(checkpoint_id, damage)

    training.ask(checkpoint_id)
    training.keep_house()

    failed = training.promotion(checkpoint_id)
    events = training.client.get(f"/v1/jobs/{training.step.job_id}/events").json()["data"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "checkpoint_damaged")
    assert "model.safetensors" in failed["error"]["message"]
    assert "/checkpoints" in failed["error"]["hint"]
    assert [event["type"] for event in events] == ["checkpoint_not_promoted"]
    assert training.client.get("/v1/models").json()["data"] == []
    with read_only(training.engine) as session:
        assert session.scalars(select(Artifact.kind)).all() == ["checkpoint"]

    training.replace_weights(checkpoint_id, b"weights after 2")
    again = training.ask(checkpoint_id)
    training.keep_house()

    assert (again.status_code, again.json()["status"], again.json()["error"]) == (202, "queued", None)
    assert training.promotion(checkpoint_id)["status"] == "succeeded"


def test_files_that_were_removed_meanwhile_are_said_to_be_gone(training: Training) -> None:
    checkpoint_id = training.checkpoint(2)
    training.ask(checkpoint_id)
    with transaction(training.engine) as session:
        artifact_id = session.scalars(select(Promotion.artifact_id)).one()
        session.execute(delete(ArtifactFile).where(ArtifactFile.artifact_id == artifact_id))
        session.execute(delete(Artifact).where(Artifact.id == artifact_id))
    training.keep_house()

    assert training.promotion(checkpoint_id)["error"]["code"] == "checkpoint_not_found"


def test_a_checkpoint_of_an_earlier_release_is_refused(training: Training) -> None:
    folder = training.folder / "step-00000002"
    from fusion.io.manifest import write_manifest

    folder.mkdir(parents=True)
    (folder / "model-00000.safetensors").write_bytes(b"weights")
    write_manifest(folder, kind="checkpoint", meta={"step": 2, "config_digest": "x"})
    checkpoint_id = publish_checkpoint(training.engine, training.store, training.step, folder)

    answer = training.ask(checkpoint_id)

    assert training.checkpoints()[0]["is_promotable"] is False
    assert (answer.status_code, answer.json()["code"]) == (409, "checkpoint_not_promotable")


def test_what_a_real_training_left_is_a_model_that_transformers_loads(
    training: Training, tmp_path: Path
) -> None:
    case = TrainingCase(tmp_path, max_steps=2)
    case.run("trained")
    folder = tmp_path / "trained/checkpoints/step-00000002"
    checkpoint_id = publish_checkpoint(training.engine, training.store, training.step, folder)

    model = training.promote(checkpoint_id)

    (tmp_path / "fetched").mkdir()
    for name, data in training.files_of(model).items():
        (tmp_path / "fetched" / name).write_bytes(data)
    loaded, trained = (
        AutoModelForCausalLM.from_pretrained(path).state_dict()
        for path in (tmp_path / "fetched", tmp_path / "trained/model")
    )
    assert loaded.keys() == trained.keys()
    assert all(torch.equal(loaded[name], trained[name]) for name in trained)
