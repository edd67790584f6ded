"""Fused models without a fusion: a folder, stored and registered as a job would have done it."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, update

from app.accounts.projects import ensure_default_project
from app.artifacts.kinds import ArtifactKind
from app.artifacts.service import Origin, publish_folder
from app.catalog.models import register_fused_model
from app.db.models import Job, Step
from app.db.session import transaction
from app.storage.store import ObjectStore
from fusion.io.manifest import write_manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredModel:
    """Ids of a model and of what it came from."""

    project_id: str
    job_id: str
    artifact_id: str
    model_id: str


def store_model(
    engine: Engine, store: ObjectStore, folder: Path, *, name: str = "fused", project_id: str | None = None
) -> StoredModel:
    """Store every file of `folder` as the model of a new job, in the default project if none is named."""
    with transaction(engine) as session:
        project_id = project_id or ensure_default_project(session).id
        job = Job(
            project_id=project_id,
            name=name,
            spec={},
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
            name="publish",
            stage="publish",
            resource="cpu",
            weight=1.0,
            status="running",
            attempt=1,
        )
        session.add(step)
    if not (folder / "manifest.json").exists():
        write_manifest(folder, kind="model")
    artifact_id = publish_folder(
        engine,
        store,
        folder,
        origin=Origin(
            project_id=project_id,
            job_id=job.id,
            step_id=step.id,
            attempt=1,
            kind=ArtifactKind.MODEL,
            role="publish",
        ),
    )
    assert artifact_id is not None
    with transaction(engine) as session:
        session.execute(update(Step).where(Step.id == step.id).values(status="succeeded"))
        session.execute(update(Job).where(Job.id == job.id).values(status="succeeded"))
        model = register_fused_model(
            session, project_id=project_id, job_id=job.id, artifact_id=artifact_id, name=name
        )
    return StoredModel(project_id=project_id, job_id=job.id, artifact_id=artifact_id, model_id=model.id)
