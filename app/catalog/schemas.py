"""Files and models as the API shows them: OpenAI's fields, and ours."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.artifacts.schemas import ArtifactFileObject
from app.catalog.findings import FileFormat, Purpose
from app.catalog.repository import ModelKind, kind_of
from app.catalog.result_files import RESULT_PURPOSE, ResultFile
from app.db.base import unix_seconds
from app.db.models import File, Model
from fusion.spec import ModelRef

ShownPurpose = Purpose | Literal["fine-tune-results"]
"""The last one is what a job measured (`result_files`); nobody uploads it."""
_NO_FACTS: dict[str, Any] = {"format": None, "num_records": None, "fields": [], "num_text_bytes": None}


class FileErrorObject(BaseModel):
    """The first problem of a file."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    code: str
    message: str
    hint: str
    line: int | None = None
    """The line to blame, from 1."""
    byte: int | None = None
    """Offset in the text of the byte to blame, from 0."""


class FileObject(BaseModel):
    """An uploaded file."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    """When it goes by itself; null if never."""
    filename: str
    purpose: ShownPurpose
    status: Literal["uploaded", "processed", "error"]
    """`uploaded` until it is checked, which takes a moment where the file is large."""
    status_details: str | None
    """What is wrong, in one sentence; null for a file that can be used."""
    error: FileErrorObject | None
    sha256: str
    format: FileFormat | None
    """What the check took it for; null where there is none yet, or a problem."""
    num_records: int | None
    """Records, rows or lines."""
    fields: list[str]
    """Of the first record; of Parquet, the columns. At most 100."""
    num_text_bytes: int | None
    """Size of the text, uncompressed."""

    @classmethod
    def of_result(cls, file: ResultFile) -> Self:
        """The curves of a job, which nobody uploaded."""
        return cls(
            **{**_NO_FACTS, "num_records": file.num_rows, "fields": list(file.columns)},
            id=file.id,
            bytes=len(file.content),
            created_at=unix_seconds(file.created_at),
            expires_at=None,
            filename=file.filename,
            purpose=RESULT_PURPOSE,
            status="processed",
            status_details=None,
            error=None,
            sha256=file.sha256,
        )

    @classmethod
    def of(cls, file: File, **more: Any) -> Self:
        return cls.model_validate(
            {
                "id": file.id,
                "bytes": file.num_bytes,
                "created_at": unix_seconds(file.created_at),
                "expires_at": None if file.expires_at is None else unix_seconds(file.expires_at),
                "filename": file.filename,
                "purpose": file.purpose,
                "status": file.status,
                "status_details": file.error["message"] if file.error else None,
                "error": file.error,
                "sha256": file.sha256,
                **_NO_FACTS,
                **(file.facts or {}),
                **more,
            }
        )


class CreatedFile(FileObject):
    """A new file."""

    duplicate_of: str | None
    """The oldest file of this project with the same bytes, which are stored once; null if they are new."""


class DeletedFile(BaseModel):
    """A file that is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class RegisterModel(BaseModel):
    """A checkpoint to be known by an id."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={
            "example": {"name": "small llama", "ref": {"hub": "org/llama-1b", "revision": "0123456789" * 4}}
        },
    )

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
    ref: ModelRef
    """`{hub, revision}`, or `{path}` under an allowed root."""


class ModelObject(BaseModel):
    """A model: a registered checkpoint (`ref`), or of a job: its result, or a checkpoint of its training."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    """The project."""
    name: str
    kind: ModelKind
    job_id: str | None
    artifact_id: str | None
    """Its files; null for a registered checkpoint, which is not stored here."""
    checkpoint_id: str | None
    """The checkpoint that was promoted to it; it may be gone."""
    hub_id: str | None
    """Its repository for the hub's tools; null for a checkpoint that is not stored here."""
    ref: ModelRef | None

    @classmethod
    def of(cls, model: Model) -> Self:
        return cls(
            id=model.id,
            created=unix_seconds(model.created_at),
            owned_by=model.project_id,
            name=model.name,
            kind=kind_of(model),
            job_id=model.made_by_job_id,
            artifact_id=model.artifact_id,
            checkpoint_id=model.checkpoint_id,
            hub_id=None if model.artifact_id is None else f"{model.project_id}/{model.id}",
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
