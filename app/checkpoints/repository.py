"""Queries on checkpoints: the parts that a training leaves while it runs."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.artifacts.kinds import ArtifactKind
from app.db.models import Artifact, ArtifactFile, Job, Model, Step

MODEL_FOLDER = "model/"
"""Below it a checkpoint holds a folder that transformers loads."""


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
