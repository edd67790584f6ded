"""Uploaded files: arrival, reading, removal."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.accounts.service import Principal
from app.artifacts.blobs import delete_unreferenced_blobs, require_blobs, store_and_record
from app.artifacts.manifest import ManifestFile
from app.catalog import repository
from app.catalog.checks import CheckTooLong, Finding, check_uploaded_file
from app.catalog.file_checks import UPLOADED, columns_of
from app.catalog.findings import Purpose
from app.catalog.receiving import ReceivedFile
from app.catalog.room import leaving_nothing_when_refused
from app.db.base import db_time
from app.db.models import File
from app.db.session import read_only, transaction
from app.errors import Conflict, NotFound
from app.quotas.enforcement import require_room
from app.storage.byte_source import ByteSource
from app.storage.store import ObjectStore, blob_key
from fusion.errors import InfrastructureError
from fusion.failpoints import failpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What the client says of a file. `expires_after`: its creation; never, if None."""

    filename: str
    purpose: Purpose
    expires_after: timedelta | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """A new file, and the oldest one of the project that has the same bytes, if there is one."""

    file: File
    duplicate_of: str | None


def store_file(
    engine: Engine,
    store: ObjectStore,
    received: ReceivedFile,
    *,
    wanted: Wanted,
    principal: Principal,
    max_checked_bytes: int,
) -> Arrival:
    """Store the bytes, then record the file. One with a problem is kept and says so.

    Up to `max_checked_bytes` of text are checked at once; `FileChecker` takes care of what is longer.

    Raises:
        QuotaExceeded: the project has no room for it; nothing is kept.
    """
    finding = check_now(received, wanted=wanted, max_checked_bytes=max_checked_bytes)

    def record(session: Session, stored: ManifestFile) -> Arrival:
        require_blobs(session, store, [stored], project_id=project_id)
        arrival = record_file(session, stored, wanted=wanted, principal=principal, finding=finding)
        require_room(session, project_id)
        return arrival

    project_id = principal.project_id
    with leaving_nothing_when_refused(engine, store, received, project_id=project_id):
        return store_and_record(
            engine, lambda: store_received(store, received, project_id=project_id), record
        )


def store_received(store: ObjectStore, received: ReceivedFile, *, project_id: str) -> ManifestFile:
    """Store what arrived under its digest."""
    key = blob_key(project_id=project_id, sha256=received.sha256)
    store.put_file(key, received.path, sha256=received.sha256)
    return ManifestFile(path=received.path.name, size=received.size, sha256=received.sha256)


def check_now(received: ReceivedFile, *, wanted: Wanted, max_checked_bytes: int) -> Finding | None:
    """What is in a file; None where it would take too long to wait for."""
    try:
        return check_uploaded_file(
            ByteSource.on_disk(received.path),
            filename=wanted.filename,
            purpose=wanted.purpose,
            max_text_bytes=max_checked_bytes,
        )
    except CheckTooLong:
        return None


def record_file(
    session: Session,
    stored: ManifestFile,
    *,
    wanted: Wanted,
    principal: Principal,
    finding: Finding | None,
) -> Arrival:
    """Insert the row of a file whose bytes are stored and kept (`require_blobs`)."""
    duplicate_of = repository.oldest_file_with(session, project_id=principal.project_id, sha256=stored.sha256)
    file = File(
        project_id=principal.project_id,
        filename=wanted.filename,
        purpose=wanted.purpose,
        num_bytes=stored.size,
        sha256=stored.sha256,
        created_by=principal.key_id,
        expires_at=None if wanted.expires_after is None else db_time(wanted.expires_after.total_seconds()),
        **({"status": UPLOADED} if finding is None else columns_of(finding)),
    )
    session.add(file)
    session.flush()
    session.refresh(file)
    return Arrival(file=file, duplicate_of=duplicate_of)


def get_file(session: Session, *, project_id: str, file_id: str) -> File:
    """A file of the project.

    Raises:
        NotFound: there is none, or it has expired; another project's is none either.
    """
    file = repository.find_file(session, project_id=project_id, file_id=file_id)
    if file is None:
        raise NotFound(f"there is no file {file_id!r} in this project", code="file_not_found")
    return file


def delete_file(engine: Engine, store: ObjectStore, file_id: str, *, project_id: str) -> None:
    """Remove a file, and its bytes when no other file has them.

    Raises:
        NotFound: there is none.
        Conflict: a job that has not ended names it.
    """
    with transaction(engine) as session:
        file = get_file(session, project_id=project_id, file_id=file_id)
        user = repository.live_job_naming(session, project_id=project_id, resource_id=file_id)
        if user is not None:
            raise Conflict(f"{user} uses this file; cancel the job or wait for its end", code="file_in_use")
        session.delete(file)
    failpoint("file.forgotten")
    with transaction(engine) as session:
        delete_unreferenced_blobs(session, store, {file.sha256}, project_id=project_id)


def fetch_file(engine: Engine, store: ObjectStore, file_id: str, *, project_id: str, into: Path) -> Path:
    """Bring an uploaded file into a folder, under its own name, whose extension tells the format. Read-only.

    One that has expired is still there for jobs that began before.

    Raises:
        InfrastructureError: the file is gone, storage trouble, or bytes that are not those uploaded.
    """
    with read_only(engine) as session:
        file = session.get(File, file_id)
    if file is None or file.project_id != project_id:
        raise InfrastructureError(f"there is no file {file_id}", code="file_missing")
    path = into / file.filename
    store.get_file(blob_key(project_id=project_id, sha256=file.sha256), path, sha256=file.sha256)
    return path
