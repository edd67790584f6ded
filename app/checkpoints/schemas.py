"""Checkpoints as the API shows them."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.artifacts.schemas import ArtifactFileObject
from app.checkpoints.repository import Checkpoint, PromotionStatus
from app.db.base import unix_seconds
from app.db.models import ArtifactFile, Promotion

_RESUMABLE: Final = frozenset({"pending", "queued", "running", "failed"})


class CheckpointObject(BaseModel):
    """A training after some of its optimiser steps, as it is stored."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Of the artifact; its files: `/v1/artifacts/{id}`."""
    object: Literal["checkpoint"] = "checkpoint"
    job_id: str
    step_id: str
    step_name: str
    attempt: int | None
    """At the step, the one that wrote it."""
    step: int
    """Optimiser steps done."""
    num_tokens: int | None
    """Predicted tokens trained on; null where an earlier release wrote it."""
    metrics: dict[str, float | None]
    """The last numbers recorded by then: `loss`, `clm_loss`, `grad_norm` and others."""
    num_bytes: int
    num_files: int
    digest: str
    """sha256 over the names and digests of the files."""
    is_resumable: bool
    """Whether another attempt at the step would go on from it, or from a later one."""
    is_promotable: bool
    """Whether it holds a model; false where an earlier release wrote it."""
    is_best: bool
    """The lowest training loss among those of its step that are there. It is no evaluation."""
    is_last: bool
    """The most steps among those of its step that are there."""
    model_id: str | None
    """What it was promoted to."""
    created_at: int

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Self:
        return cls(**_fields(checkpoint))


class CheckpointWithFiles(CheckpointObject):
    """A checkpoint and its files."""

    files: list[ArtifactFileObject]
    """The model is what lies below `model/`."""

    @classmethod
    def of_files(cls, checkpoint: Checkpoint, files: Sequence[ArtifactFile]) -> Self:
        return cls(**_fields(checkpoint), files=[ArtifactFileObject.of(file) for file in files])


class AskPromotion(BaseModel):
    """What the model should be called."""

    model_config = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, json_schema_extra={"examples": [{"name": "wise-800"}]}
    )

    name: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    """`<job>-step-<number>` when not given. Ignored where a promotion was asked for before."""


class PromotionError(BaseModel):
    """Why no model could be made."""

    code: str
    """`checkpoint_damaged`, or `checkpoint_not_found` where its bytes were removed meanwhile."""
    message: str
    hint: str


class PromotionObject(BaseModel):
    """A model that is made of a checkpoint. Its bytes are read first, so it takes as long as that."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    object: Literal["promotion"] = "promotion"
    checkpoint_id: str
    job_id: str
    name: str
    """Of the model."""
    status: PromotionStatus
    """`queued` until somebody reads, `running` while they do; then `succeeded` or `failed`."""
    num_bytes: int
    num_bytes_read: int
    """Renewed every few seconds; after a crash it begins again."""
    model_id: str | None
    """The model, once there is one."""
    error: PromotionError | None
    created_at: int
    finished_at: int | None

    @classmethod
    def of(cls, promotion: Promotion) -> Self:
        finished_at = promotion.finished_at
        return cls(
            checkpoint_id=promotion.checkpoint_id,
            job_id=promotion.job_id,
            name=promotion.name,
            status=PromotionStatus(promotion.status),
            num_bytes=promotion.num_bytes,
            num_bytes_read=promotion.num_bytes_read,
            model_id=promotion.model_id,
            error=None if promotion.error is None else PromotionError(**promotion.error),
            created_at=unix_seconds(promotion.created_at),
            finished_at=None if finished_at is None else unix_seconds(finished_at),
        )


def _fields(checkpoint: Checkpoint) -> dict[str, Any]:
    artifact, step = checkpoint.artifact, checkpoint.step
    return {
        "id": artifact.id,
        "job_id": step.job_id,
        "step_id": step.id,
        "step_name": step.name,
        "attempt": artifact.attempt,
        "step": checkpoint.number,
        "num_tokens": checkpoint.num_tokens,
        "metrics": checkpoint.metrics,
        "num_bytes": artifact.num_bytes,
        "num_files": artifact.num_files,
        "digest": artifact.digest,
        "is_resumable": step.status in _RESUMABLE,
        "is_promotable": checkpoint.is_promotable,
        "is_best": checkpoint.is_best,
        "is_last": checkpoint.is_last,
        "model_id": checkpoint.model_id,
        "created_at": unix_seconds(artifact.created_at),
    }
