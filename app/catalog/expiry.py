"""Removes files whose time is over."""

from typing import Final

from sqlalchemy import Engine, Select, select

from app.artifacts.blobs import delete_unreferenced_blobs
from app.artifacts.garbage import Garbage
from app.catalog import repository
from app.db.base import db_time
from app.db.models import File
from app.db.session import read_only, transaction
from app.storage.store import ObjectStore

_FILES_AT_ONCE: Final = 100


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
