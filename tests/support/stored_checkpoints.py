"""Checkpoints of a training that runs, stored as its worker would have done it; no torch."""

from pathlib import Path

from sqlalchemy import Engine

from app.accounts.projects import ensure_default_project
from app.artifacts.kinds import ArtifactKind
from app.artifacts.service import Origin, publish_folder
from app.db.models import Job, Step
from app.db.session import transaction
from app.storage.store import ObjectStore
from fusion.io.manifest import write_manifest
from fusion.spec import FusionSpec
from tests.app.jobs import builders as given

MODEL_FILES = {
    "model/config.json": b'{"model_type": "llama"}',
    "model/tokenizer.json": b"{}",
}


_SPEC = FusionSpec.model_validate(given.spec_data()).model_dump(mode="json") | {
    "target": {"model": {"path": "/models/llama"}},
    "sources": [],
}


def training_step(engine: Engine, *, project_id: str | None = None, name: str = "train.fused") -> Step:
    """A running training of a new job, in the default project if none is named."""
    with transaction(engine) as session:
        project_id = project_id or ensure_default_project(session).id
        job = Job(
            project_id=project_id,
            name="wise",
            spec=_SPEC,
            spec_digest="0" * 64,
            status="running",
            desired="run",
        )
        session.add(job)
        session.flush()
        step = Step(
            job_id=job.id,
            project_id=project_id,
            position=0,
            name=name,
            stage="train",
            resource="gpu",
            weight=1.0,
            status="running",
            attempt=1,
        )
        session.add(step)
    return step


def write_checkpoint(folder: Path, *, number: int, loss: float | None = None) -> Path:
    """A checkpoint as the engine writes it, with bytes for weights."""
    files = MODEL_FILES | {
        "model/model.safetensors": f"weights after {number}".encode(),
        "optimiser-00000.safetensors": f"moments after {number}".encode(),
        "state.json": b"{}",
    }
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    metrics = {} if loss is None else {"loss": loss}
    write_manifest(
        folder, kind="checkpoint_with_model", meta={"step": number, "num_tokens": 10, "metrics": metrics}
    )
    return folder


def store_checkpoint(
    engine: Engine, store: ObjectStore, step: Step, folder: Path, *, number: int, loss: float | None = None
) -> str:
    """Id of a new checkpoint of a running training."""
    write_checkpoint(folder, number=number, loss=loss)
    return publish_checkpoint(engine, store, step, folder)


def publish_checkpoint(engine: Engine, store: ObjectStore, step: Step, folder: Path) -> str:
    """Id of the artifact of a finished folder."""
    artifact_id = publish_folder(
        engine,
        store,
        folder,
        origin=Origin(
            project_id=step.project_id,
            job_id=step.job_id,
            step_id=step.id,
            attempt=step.attempt,
            kind=ArtifactKind.CHECKPOINT,
            role=f"checkpoints/{folder.name}",
        ),
    )
    assert artifact_id is not None
    return artifact_id
