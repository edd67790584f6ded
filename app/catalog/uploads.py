"""Uploads in parts: each part is stored when it arrives, and all of them become one file.

A part is a blob like any other, so parts outlive any process and are shared by all of them. Equal bytes are
one part of an upload: a part that is sent again, because its answer was lost, gets the answer it had.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.accounts.service import Principal
from app.artifacts.blobs import delete_unreferenced_blobs, require_blobs, store_and_record
from app.artifacts.manifest import ManifestFile
from app.catalog import upload_repository as repository
from app.catalog.files import Wanted, store_received
from app.catalog.receiving import ReceivedFile
from app.catalog.room import leaving_nothing_when_refused
from app.catalog.upload_repository import CANCELLED, PENDING
from app.db.base import db_time
from app.db.models import Upload, UploadPart
from app.db.session import transaction
from app.errors import Conflict, ContentTooLarge, FieldProblem, NotFound, Unprocessable
from app.quotas.enforcement import require_room, room_of, too_many_bytes
from app.storage.store import ObjectStore

MAX_PARTS = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownUpload:
    """An upload with its status at this moment and the parts that are there."""

    upload: Upload
    status: str
    parts: list[UploadPart]


def begin_upload(
    session: Session,
    *,
    wanted: Wanted,
    num_bytes: int,
    mime_type: str | None,
    sha256: str | None,
    principal: Principal,
    max_bytes: int,
    kept_seconds: float,
) -> Upload:
    """Announce a file.

    Raises:
        ContentTooLarge: it is larger than any file may be.
        QuotaExceeded: it is larger than what the project may still store.
    """
    if num_bytes > max_bytes:
        raise ContentTooLarge(
            f"a file of {num_bytes} bytes, at most {max_bytes} are accepted", code="file_too_large"
        )
    room = room_of(session, principal.project_id)
    if room is not None and num_bytes > room.left:
        raise too_many_bytes(principal.project_id, f"{room}, and {num_bytes} are announced")
    expires_after = wanted.expires_after
    upload = Upload(
        project_id=principal.project_id,
        filename=wanted.filename,
        purpose=wanted.purpose,
        mime_type=mime_type,
        num_bytes=num_bytes,
        announced_digest=sha256,
        status=PENDING,
        file_expires_after_seconds=None if expires_after is None else expires_after.total_seconds(),
        created_by=principal.key_id,
        expires_at=db_time(kept_seconds),
    )
    session.add(upload)
    session.flush()
    session.refresh(upload)
    return upload


def show_upload(session: Session, *, project_id: str, upload_id: str) -> ShownUpload:
    """An upload of the project and what is there of it.

    Raises:
        NotFound: there is none.
    """
    upload = get_upload(session, project_id=project_id, upload_id=upload_id)
    return ShownUpload(
        upload=upload,
        status=repository.current_status(session, upload),
        parts=repository.parts_of(session, upload.id),
    )


def get_upload(session: Session, *, project_id: str, upload_id: str, lock: bool = False) -> Upload:
    """An upload of the project.

    Raises:
        NotFound: there is none; another project's is none either.
    """
    found = repository.find_upload(session, project_id=project_id, upload_id=upload_id, lock=lock)
    if found is None:
        raise NotFound(f"there is no upload {upload_id!r} in this project", code="upload_not_found")
    return found


def require_pending(session: Session, *, project_id: str, upload_id: str, lock: bool = False) -> Upload:
    """An upload that still takes parts.

    Raises:
        NotFound: there is none.
        Conflict: it has ended.
    """
    upload = get_upload(session, project_id=project_id, upload_id=upload_id, lock=lock)
    status = repository.current_status(session, upload)
    if status != PENDING:
        raise Conflict(f"{upload_id} is {status}", code=f"upload_{status}")
    return upload


def add_part(
    engine: Engine,
    store: ObjectStore,
    received: ReceivedFile,
    *,
    upload_id: str,
    principal: Principal,
    kept_seconds: float,
) -> UploadPart:
    """Store a part. Equal bytes again are the part that is there.

    Raises:
        Conflict: the upload has ended.
        Unprocessable: an empty part, or more parts than a file may have.
        ContentTooLarge: more bytes than the upload announced.
        QuotaExceeded: the project has no room for them; nothing of the part is kept.
    """
    if received.size == 0:
        empty = FieldProblem(pointer="/data", code="part_empty", detail="send at least one byte")
        raise Unprocessable("the part is empty", code="part_empty", errors=[empty])
    project_id = principal.project_id

    def record(session: Session, stored: ManifestFile) -> UploadPart:
        upload = require_pending(session, project_id=project_id, upload_id=upload_id, lock=True)
        require_blobs(session, store, [stored], project_id=project_id)
        upload.expires_at = db_time(kept_seconds)
        found = repository.find_part(session, upload_id=upload_id, sha256=stored.sha256)
        if found is not None:
            return found
        part = _new_part(session, upload, stored)
        require_room(session, project_id)
        return part

    with leaving_nothing_when_refused(engine, store, received, project_id=project_id):
        return store_and_record(
            engine, lambda: store_received(store, received, project_id=project_id), record
        )


def cancel_upload(engine: Engine, store: ObjectStore, *, project_id: str, upload_id: str) -> ShownUpload:
    """Forget an upload and its parts. Cancelling again changes nothing.

    Raises:
        NotFound: there is none.
        Conflict: it has become a file, or has expired.
    """
    with transaction(engine) as session:
        upload = get_upload(session, project_id=project_id, upload_id=upload_id, lock=True)
        if upload.status != CANCELLED:
            require_pending(session, project_id=project_id, upload_id=upload_id)
        digests = end_upload(session, upload, status=CANCELLED)
    with transaction(engine) as session:
        delete_unreferenced_blobs(session, store, digests, project_id=project_id)
    return ShownUpload(upload=upload, status=CANCELLED, parts=[])


def end_upload(session: Session, upload: Upload, *, status: str) -> set[str]:
    """Let go of the parts of an upload that is locked; their digests, which may be garbage now."""
    upload.status = status
    upload.ended_at = db_time()
    session.flush()
    session.refresh(upload)
    return repository.remove_parts(session, upload.id)


def wanted_of(upload: Upload) -> Wanted:
    """What was said of the file when the upload began."""
    seconds = upload.file_expires_after_seconds
    purpose: Any = upload.purpose
    return Wanted(
        filename=upload.filename,
        purpose=purpose,
        expires_after=None if seconds is None else timedelta(seconds=seconds),
    )


def _new_part(session: Session, upload: Upload, stored: ManifestFile) -> UploadPart:
    parts = repository.parts_of(session, upload.id)
    present = sum(part.num_bytes for part in parts)
    if present + stored.size > upload.num_bytes:
        raise ContentTooLarge(
            f"with this part {upload.id} would hold {present + stored.size} bytes, announced were "
            f"{upload.num_bytes}",
            code="upload_too_large",
        )
    if len(parts) >= MAX_PARTS:
        raise Unprocessable(f"an upload has at most {MAX_PARTS} parts", code="too_many_parts")
    part = UploadPart(
        project_id=upload.project_id, upload_id=upload.id, num_bytes=stored.size, sha256=stored.sha256
    )
    session.add(part)
    session.flush()
    session.refresh(part)
    return part
