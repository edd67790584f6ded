"""Queries on projects and API keys."""

from sqlalchemy import Select, or_, select, update
from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.models import ApiKey, Project


def project_named(session: Session, name: str) -> Project | None:
    return session.scalars(select(Project).where(Project.name == name)).one_or_none()


def live_keys_with_prefix(session: Session, prefix: str) -> list[ApiKey]:
    """Keys that are neither revoked nor expired, by the database's clock."""
    return list(session.scalars(_live().where(ApiKey.prefix == prefix)))


def live_keys(project_id: str) -> Select[ApiKey]:
    """Statement for the keys of a project that still work."""
    return _live().where(ApiKey.project_id == project_id)


def find_key(session: Session, *, project_id: str, key_id: str) -> ApiKey | None:
    return session.scalars(
        select(ApiKey).where(
            ApiKey.id == key_id, ApiKey.project_id == project_id, ApiKey.revoked_at.is_(None)
        )
    ).one_or_none()


def revoke_key(session: Session, *, project_id: str, key_id: str) -> bool:
    """Revoke a key of a project; whether one was revoked by this call."""
    return (
        session.execute(
            update(ApiKey)
            .where(ApiKey.id == key_id, ApiKey.project_id == project_id, ApiKey.revoked_at.is_(None))
            .values(revoked_at=db_time())
            .returning(ApiKey.id)
        ).one_or_none()
        is not None
    )


def touch_key(session: Session, key_id: str) -> None:
    """Note that a key was used just now."""
    session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=db_time()))


def _live() -> Select[ApiKey]:
    return select(ApiKey).where(
        ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > db_time())
    )
