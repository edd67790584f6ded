"""What jobs leave behind: models, checkpoints and artifacts."""

from typing import Any

from app.client.resources.resource import Resource


class Model(Resource):
    """`kind`: registered, fused or promoted; None from an earlier service."""

    id: str
    name: str
    kind: str | None = None
    created: int | None = None
    job_id: str | None = None
    artifact_id: str | None = None
    checkpoint_id: str | None = None
    hub_id: str | None = None


class Checkpoint(Resource):
    """A training after `step` of its optimiser steps, as it is stored."""

    id: str
    job_id: str
    step_name: str
    step: int
    metrics: dict[str, float | None]
    num_bytes: int
    is_best: bool
    is_last: bool
    is_promotable: bool
    model_id: str | None = None
    created_at: int


class Promotion(Resource):
    """A model that is made of a checkpoint, whose bytes are read first."""

    checkpoint_id: str
    name: str
    status: str
    num_bytes: int
    num_bytes_read: int
    model_id: str | None = None
    error: dict[str, str] | None = None

    @property
    def is_finished(self) -> bool:
        return self.status in ("succeeded", "failed")


class Publication(Resource):
    """A model that is copied to a hub, a bucket or an MLflow server."""

    id: str
    model_id: str
    target: str
    destination: dict[str, Any]
    status: str
    num_bytes: int
    num_bytes_sent: int
    num_failures: int = 0
    next_try_at: int | None = None
    url: str | None = None
    revision: str | None = None
    error: dict[str, str | None] | None = None
    created_at: int

    @property
    def is_finished(self) -> bool:
        return self.status in ("succeeded", "failed", "cancelled")


class ArtifactFile(Resource):
    path: str
    size: int
    sha256: str


class Artifact(Resource):
    id: str
    kind: str
    role: str | None = None
    digest: str | None = None
    num_bytes: int = 0
    files: list[ArtifactFile] = []
