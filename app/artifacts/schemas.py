"""Artifacts as the API shows them."""

from collections.abc import Sequence
from typing import Any, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from app.artifacts.kinds import ArtifactKind
from app.db.base import unix_seconds
from app.db.models import Artifact, ArtifactFile


class ArtifactObject(BaseModel):
    """A stored folder."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["artifact"] = "artifact"
    job_id: str | None
    step_id: str | None
    attempt: int | None
    kind: ArtifactKind
    role: str
    """For a checkpoint its path in the step's folder; else the name of the step."""
    format: str | None
    """What the folder holds, as the engine names it."""
    digest: str
    """sha256 over the names and digests of the files."""
    num_bytes: int
    num_files: int
    created_at: int

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        return cls(**_fields(artifact))


class ArtifactFileObject(BaseModel):
    """One file of an artifact."""

    path: str
    size: int
    sha256: str
    content_url: str

    @classmethod
    def of(cls, file: ArtifactFile) -> Self:
        return cls(
            path=file.path,
            size=file.num_bytes,
            sha256=file.sha256,
            content_url=f"/v1/artifacts/{file.artifact_id}/content?path={quote(file.path, safe='')}",
        )


class ArtifactWithFiles(ArtifactObject):
    """A stored folder and its files."""

    meta: dict[str, Any]
    """Facts about the contents, from the folder's manifest."""
    files: list[ArtifactFileObject]

    @classmethod
    def of_files(cls, artifact: Artifact, files: Sequence[ArtifactFile]) -> Self:
        return cls(
            **_fields(artifact),
            meta=(artifact.manifest or {}).get("meta", {}),
            files=[ArtifactFileObject.of(file) for file in files],
        )


def _fields(artifact: Artifact) -> dict[str, Any]:
    return {
        "id": artifact.id,
        "job_id": artifact.job_id,
        "step_id": artifact.step_id,
        "attempt": artifact.attempt,
        "kind": artifact.kind,
        "role": artifact.role,
        "format": (artifact.manifest or {}).get("kind"),
        "digest": artifact.digest,
        "num_bytes": artifact.num_bytes,
        "num_files": artifact.num_files,
        "created_at": unix_seconds(artifact.created_at),
    }
