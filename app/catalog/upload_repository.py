"""Queries on uploads in parts, all of them within one project or one upload."""

from sqlalchemy import Select, case, delete, func, select
from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.models import Upload, UploadPart

PENDING = "pending"
COMPLETED = "completed"
CANCELLED = "cancelled"
EXPIRED = "expired"


def find_upload(session: Session, *, project_id: str, upload_id: str, lock: bool = False) -> Upload | None:
    """One upload; with `lock`, its row is this transaction's until it ends."""
    query = select(Upload).where(Upload.id == upload_id, Upload.project_id == project_id)
    # Read again what another transaction may have changed while this one waited for the lock.
    locked = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    return session.scalars(locked if lock else query).one_or_none()


def current_status(session: Session, upload: Upload) -> str:
    """Status by the database's clock: an abandoned upload has expired, also before anybody collects it."""
    abandoned = (Upload.status == PENDING) & (Upload.expires_at <= db_time())
    query = select(case((abandoned, EXPIRED), else_=Upload.status)).where(Upload.id == upload.id)
    return str(session.scalars(query).one())


def select_uploads(*, project_id: str, status: str | None, sha256: str | None) -> Select[Upload]:
    """Statement for the uploads of a project. One that expired and was not collected yet is none of them."""
    statement = select(Upload).where(
        Upload.project_id == project_id, (Upload.status != PENDING) | (Upload.expires_at > db_time())
    )
    if status is not None:
        statement = statement.where(Upload.status == status)
    return statement if sha256 is None else statement.where(Upload.announced_digest == sha256)


def parts_of(session: Session, upload_id: str) -> list[UploadPart]:
    """Parts in the order in which they came."""
    query = select(UploadPart).where(UploadPart.upload_id == upload_id).order_by(UploadPart.id)
    return list(session.scalars(query))


def find_part(session: Session, *, upload_id: str, sha256: str) -> UploadPart | None:
    return session.scalars(
        select(UploadPart).where(UploadPart.upload_id == upload_id, UploadPart.sha256 == sha256)
    ).one_or_none()


def num_bytes_of_parts(session: Session, upload_id: str) -> int:
    query = select(func.coalesce(func.sum(UploadPart.num_bytes), 0)).where(UploadPart.upload_id == upload_id)
    return int(session.scalars(query).one())


def remove_parts(session: Session, upload_id: str) -> set[str]:
    """Forget the parts; their digests."""
    query = delete(UploadPart).where(UploadPart.upload_id == upload_id).returning(UploadPart.sha256)
    return set(session.scalars(query))


def abandoned_uploads(*, limit: int) -> Select[Upload]:
    """Statement for pending uploads that nobody continues, of every project."""
    return (
        select(Upload)
        .where(Upload.status == PENDING, Upload.expires_at <= db_time())
        .order_by(Upload.id)
        .limit(limit)
    )
