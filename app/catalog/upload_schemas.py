"""Uploads in parts as the API shows them: OpenAI's fields, and ours."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.catalog.file_form import MAX_EXPIRY_SECONDS, MIN_EXPIRY_SECONDS
from app.catalog.findings import Purpose
from app.catalog.schemas import CreatedFile
from app.catalog.uploads import MAX_PARTS
from app.db.base import unix_seconds
from app.db.models import Upload, UploadPart

UploadStatus = Literal["pending", "completed", "cancelled", "expired"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ExpiresAfter(BaseModel):
    """When the file goes by itself."""

    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Field(ge=MIN_EXPIRY_SECONDS, le=MAX_EXPIRY_SECONDS)]


class CreateUpload(BaseModel):
    """A file that is going to come in parts."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={
            "examples": [
                {
                    "filename": "prose.jsonl.zst",
                    "purpose": "corpus",
                    "bytes": 3_000_000_000,
                    "mime_type": "application/zstd",
                }
            ]
        },
    )

    filename: str
    purpose: Purpose = "corpus"
    bytes: Annotated[int, Field(ge=1)]
    """Size of the whole file."""
    mime_type: Annotated[str, Field(max_length=200)] | None = None
    """For people; the name tells the format."""
    sha256: Sha256 | None = None
    """Digest of the whole file; it is checked at the end, and finds the upload again."""
    expires_after: ExpiresAfter | None = None


class CompleteUpload(BaseModel):
    """How the parts make the file."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={
            "examples": [
                {"part_ids": ["part-06f3k9x2q4v8t1m7c5b0z6n3ha"], "md5": "5d41402abc4b2a76b9719d911017c592"}
            ]
        },
    )

    part_ids: Annotated[list[str], Field(min_length=1, max_length=MAX_PARTS)]
    """In the order of the file. Equal parts have one id, which then stands here more than once."""
    md5: Annotated[str, Field(pattern="^[0-9a-fA-F]{32}$")] | None = None
    """Of the whole file; it is checked."""
    sha256: Sha256 | None = None
    """Of the whole file; it is checked."""


class UploadPartObject(BaseModel):
    """A part that is stored."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str
    bytes: int
    sha256: str
    """Tells which part of the file it is."""

    @classmethod
    def of(cls, part: UploadPart) -> Self:
        return cls(
            id=part.id,
            created_at=unix_seconds(part.created_at),
            upload_id=part.upload_id,
            bytes=part.num_bytes,
            sha256=part.sha256,
        )


class UploadObject(BaseModel):
    """An upload in parts."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    """Size of the whole file."""
    created_at: int
    expires_at: int
    """An unfinished upload is forgotten then; every part moves it."""
    filename: str
    purpose: Purpose
    status: UploadStatus
    mime_type: str | None
    sha256: str | None
    """As it was announced."""
    file_id: str | None
    """What a completed upload became."""

    @classmethod
    def of(cls, upload: Upload, **more: Any) -> Self:
        return cls.model_validate(
            {
                "id": upload.id,
                "bytes": upload.num_bytes,
                "created_at": unix_seconds(upload.created_at),
                "expires_at": unix_seconds(upload.expires_at),
                "filename": upload.filename,
                "purpose": upload.purpose,
                "status": upload.status,
                "mime_type": upload.mime_type,
                "sha256": upload.announced_digest,
                "file_id": upload.file_id,
                **more,
            }
        )


class UploadWithParts(UploadObject):
    """An upload and what is there of it."""

    parts: list[UploadPartObject]
    """In the order in which they came."""


class EndedUpload(UploadObject):
    """An upload that takes no more parts."""

    file: CreatedFile | None
    """What it became; null for a cancelled one, and once the file was deleted."""
