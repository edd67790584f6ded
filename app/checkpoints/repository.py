"""Queries on checkpoints, the parts that a training leaves while it runs, and on their promotions."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.artifacts.kinds import ArtifactKind
from app.db.models import Artifact, ArtifactFile, Job, Model, Promotion, Step

MODEL_FOLDER = "model/"
"""Below it a checkpoint holds a folder that transformers loads."""


class PromotionStatus(StrEnum):
    """Where a promotion stands: queued -> running -> succeeded | failed; a lost one is begun again."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A checkpoint that is stored, with what it is among those of its training."""

    artifact: Artifact
    step: Step
    model_id: str | None
    """What it was promoted to."""
    is_promotable: bool
    is_best: bool
    is_last: bool

    @property
    def number(self) -> int:
        """Optimiser steps done."""
        return _number(self.artifact)

    @property
    def num_tokens(self) -> int | None:
        return meta_of(self.artifact).get("num_tokens")

    @property
    def metrics(self) -> dict[str, Any]:
        metrics: dict[str, Any] = meta_of(self.artifact).get("metrics", {})
        return metrics


def meta_of(artifact: Artifact) -> dict[str, Any]:
    """What the engine wrote into the manifest."""
    meta: dict[str, Any] = (artifact.manifest or {}).get("meta", {})
    return meta


def find_checkpoint(session: Session, *, project_id: str, checkpoint_id: str) -> Checkpoint | None:
    query = _checkpoints(project_id).where(Artifact.id == checkpoint_id)
    row = session.execute(query).first()
    if row is None:
        return None
    _, step = row
    of_training = checkpoints_of(session, project_id=project_id, job_id=step.job_id)
    return next((found for found in of_training if found.artifact.id == checkpoint_id), None)


def checkpoints_of(session: Session, *, project_id: str, job_id: str) -> list[Checkpoint]:
    """Every stored checkpoint of a job, by id. They are few: a training keeps its last ones."""
    rows = session.execute(
        _checkpoints(project_id).where(Artifact.job_id == job_id).order_by(Artifact.id)
    ).all()
    ids = [artifact.id for artifact, _ in rows]
    promoted = {
        model.checkpoint_id: model.id
        for model in session.scalars(select(Model).where(Model.checkpoint_id.in_(ids)))
    }
    with_model = set(
        session.scalars(
            select(ArtifactFile.artifact_id).where(
                ArtifactFile.artifact_id.in_(ids), ArtifactFile.path == f"{MODEL_FOLDER}config.json"
            )
        )
    )
    artifacts = [artifact for artifact, _ in rows]
    return [
        Checkpoint(
            artifact=artifact,
            step=step,
            model_id=promoted.get(artifact.id),
            is_promotable=artifact.id in with_model,
            is_best=artifact is _best(artifacts, step.id),
            is_last=artifact is _last(artifacts, step.id),
        )
        for artifact, step in rows
    ]


def find_promotion(session: Session, *, project_id: str, checkpoint_id: str) -> Promotion | None:
    """The last promotion of a checkpoint; None when there was none, or its model was deleted."""
    model = find_promoted(session, checkpoint_id)
    query = select(Promotion).where(
        Promotion.checkpoint_id == checkpoint_id, Promotion.project_id == project_id
    )
    found = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if model is None:
        return None if found is None or found.status == PromotionStatus.SUCCEEDED else found
    return found if found is not None and found.model_id == model.id else _of_earlier_release(session, model)


def find_promoted(session: Session, checkpoint_id: str) -> Model | None:
    """The model that was made of a checkpoint."""
    return session.scalars(select(Model).where(Model.checkpoint_id == checkpoint_id)).one_or_none()


def _of_earlier_release(session: Session, model: Model) -> Promotion:
    """How a model is told of that was promoted at once, when a promotion left no row."""
    artifact = session.scalars(select(Artifact).where(Artifact.id == model.artifact_id)).one()
    return Promotion(
        checkpoint_id=model.checkpoint_id,
        project_id=model.project_id,
        job_id=model.checkpoint_job_id,
        artifact_id=artifact.id,
        name=model.name,
        status=PromotionStatus.SUCCEEDED,
        num_bytes=artifact.num_bytes,
        num_bytes_read=artifact.num_bytes,
        model_id=model.id,
        created_at=model.created_at,
        finished_at=model.created_at,
    )


def _checkpoints(project_id: str) -> Select[Artifact, Step]:
    return (
        select(Artifact, Step)
        .join(Step, Step.id == Artifact.step_id)
        .join(Job, Job.id == Artifact.job_id)
        .where(
            Artifact.project_id == project_id,
            Artifact.kind == ArtifactKind.CHECKPOINT.value,
            Step.stage == "train",
            Job.purged_at.is_(None),
        )
    )


def _number(artifact: Artifact) -> int:
    return int(meta_of(artifact).get("step", 0))


def _last(artifacts: list[Artifact], step_id: str) -> Artifact:
    return max((found for found in artifacts if found.step_id == step_id), key=_number)


def _best(artifacts: list[Artifact], step_id: str) -> Artifact | None:
    """The one with the lowest loss; of several the later one."""
    losses = [
        (loss, -_number(found), found)
        for found in artifacts
        if found.step_id == step_id and (loss := meta_of(found).get("metrics", {}).get("loss")) is not None
    ]
    return min(losses, key=lambda entry: entry[:2])[2] if losses else None
