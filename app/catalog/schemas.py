"""Files and models as the API shows them: OpenAI's fields, and ours."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.artifacts.schemas import ArtifactFileObject
from app.catalog.checks import Purpose
from app.db.base import unix_seconds
from app.db.models import File, Model
from fusion.spec import ModelRef


class FileErrorObject(BaseModel):
    """The first problem of a file."""

    code: str
    message: str
    hint: str
    line: int | None


class FileObject(BaseModel):
    """An uploaded file."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: Purpose
    status: Literal["processed", "error"]
    status_details: str | None
    """What is wrong, in one sentence; None for a file that can be used."""
    error: FileErrorObject | None
    sha256: str

    @classmethod
    def of(cls, file: File) -> Self:
        return cls.model_validate(
            {
                "id": file.id,
                "bytes": file.num_bytes,
                "created_at": unix_seconds(file.created_at),
                "filename": file.filename,
                "purpose": file.purpose,
                "status": file.status,
                "status_details": file.error["message"] if file.error else None,
                "error": file.error,
                "sha256": file.sha256,
            }
        )


class DeletedFile(BaseModel):
    """A file that is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class RegisterModel(BaseModel):
    """A checkpoint to be known by an id."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    name: Annotated[str, Field(min_length=1, max_length=200)]
    ref: ModelRef
    """`{hub, revision}`, or `{path}` under an allowed root."""


class ModelObject(BaseModel):
    """A model: a registered checkpoint (`ref`) or the result of a job (`job_id`, `artifact_id`)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    """The project."""
    name: str
    job_id: str | None
    artifact_id: str | None
    ref: ModelRef | None

    @classmethod
    def of(cls, model: Model) -> Self:
        return cls(
            id=model.id,
            created=unix_seconds(model.created_at),
            owned_by=model.project_id,
            name=model.name,
            job_id=model.job_id,
            artifact_id=model.artifact_id,
            ref=None if model.origin is None else ModelRef.model_validate(model.origin),
        )


class ModelManifest(BaseModel):
    """The files of a fused model."""

    id: str
    object: Literal["model.manifest"] = "model.manifest"
    artifact_id: str
    digest: str
    num_bytes: int
    files: list[ArtifactFileObject]


class DeletedModel(BaseModel):
    """A model that is no longer in the catalogue."""

    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True
