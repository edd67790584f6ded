"""Removes files whose time is over, and uploads that nobody continues."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine, Select, delete, select

from app.artifacts.blobs import delete_unreferenced_blobs
from app.artifacts.garbage import Garbage
from app.catalog import repository
from app.catalog import upload_repository as uploads
from app.catalog.upload_repository import EXPIRED
from app.catalog.uploads import end_upload
from app.db.base import db_time
from app.db.models import File, Upload
from app.db.session import read_only, transaction
from app.storage.store import ObjectStore

_FILES_AT_ONCE: Final = 100
_UPLOADS_TOLD: Final = 10_000
_ENDED_UPLOADS_KEPT_SECONDS: Final = 7 * 86_400.0
"""For clients that ask again what became of one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ended:
    """An upload that has just expired, and what it kept."""

    project_id: str
    digests: set[str]
    num_bytes: int


def drop_expired_files(engine: Engine, store: ObjectStore, *, dry_run: bool = False) -> Garbage:
    """Delete expired files, but for those that a job still reads. They were out of sight already."""
    num = num_bytes = 0
    last_id = ""
    while True:
        with read_only(engine) as session:
            found = list(session.scalars(_expired(after=last_id)))
        if not found:
            return Garbage(kind="expired file", num=num, num_bytes=num_bytes)
        last_id = found[-1].id
        for file in found:
            if dry_run or _drop(engine, store, file):
                num, num_bytes = num + 1, num_bytes + file.num_bytes


def drop_abandoned_uploads(engine: Engine, store: ObjectStore, *, dry_run: bool = False) -> Garbage:
    """End uploads that waited too long for their next part, and forget those that ended long ago."""
    if dry_run:
        with read_only(engine) as session:
            found = list(session.scalars(uploads.abandoned_uploads(limit=_UPLOADS_TOLD)))
            num_bytes = sum(uploads.num_bytes_of_parts(session, upload.id) for upload in found)
        return Garbage(kind="abandoned upload", num=len(found), num_bytes=num_bytes)
    num = num_bytes = 0
    while (ended := _end_abandoned(engine)) is not None:
        num, num_bytes = num + 1, num_bytes + ended.num_bytes
        with transaction(engine) as session:
            delete_unreferenced_blobs(session, store, ended.digests, project_id=ended.project_id)
    with transaction(engine) as session:
        session.execute(delete(Upload).where(Upload.ended_at < db_time(-_ENDED_UPLOADS_KEPT_SECONDS)))
    return Garbage(kind="abandoned upload", num=num, num_bytes=num_bytes)


def _end_abandoned(engine: Engine) -> _Ended | None:
    with transaction(engine) as session:
        locked = uploads.abandoned_uploads(limit=1).with_for_update(key_share=True, skip_locked=True)
        upload = session.scalar(locked)
        if upload is None:
            return None
        num_bytes = uploads.num_bytes_of_parts(session, upload.id)
        digests = end_upload(session, upload, status=EXPIRED)
        return _Ended(project_id=upload.project_id, digests=digests, num_bytes=num_bytes)


def _drop(engine: Engine, store: ObjectStore, file: File) -> bool:
    with transaction(engine) as session:
        user = repository.live_job_naming(session, project_id=file.project_id, resource_id=file.id)
        row = session.get(File, file.id)
        if user is not None or row is None:
            return False
        session.delete(row)
    with transaction(engine) as session:
        delete_unreferenced_blobs(session, store, {file.sha256}, project_id=file.project_id)
    return True


def _expired(*, after: str) -> Select[File]:
    return (
        select(File)
        .where(File.expires_at < db_time(), File.id > after)
        .order_by(File.id)
        .limit(_FILES_AT_ONCE)
    )
