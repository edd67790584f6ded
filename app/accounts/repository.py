"""Queries on projects and API keys."""

from collections.abc import Collection
from enum import StrEnum
from typing import Final

from sqlalchemy import Select, and_, case, or_, select, update
from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.models import ApiKey, Project

LAST_USED_PRECISION_SECONDS: Final = 60.0
"""The use of a key is noted at most this often."""


class KeyState(StrEnum):
    """Whether a key works, by the database's clock."""

    LIVE = "live"
    EXPIRED = "expired"
    REVOKED = "revoked"


def find_project(session: Session, project_id: str) -> Project | None:
    """A project that was not deleted."""
    return session.scalars(live_projects().where(Project.id == project_id)).one_or_none()


def live_projects() -> Select[Project]:
    """Statement for the projects that were not deleted."""
    return select(Project).where(Project.deleted_at.is_(None))


def project_named(session: Session, name: str) -> Project | None:
    return session.scalars(select(Project).where(Project.name == name)).one_or_none()


def keys_with_prefix(session: Session, prefix: str) -> list[tuple[ApiKey, KeyState]]:
    """Keys that begin so, of any project, and whether they work."""
    state = case(
        (ApiKey.revoked_at.is_not(None), KeyState.REVOKED),
        (ApiKey.expires_at <= db_time(), KeyState.EXPIRED),
        else_=KeyState.LIVE,
    )
    rows = session.execute(select(ApiKey, state).where(ApiKey.prefix == prefix))
    return [(key, KeyState(text)) for key, text in rows]


def live_keys(project_id: str) -> Select[ApiKey]:
    """Statement for the keys of a project that still work."""
    return _live().where(ApiKey.project_id == project_id)


def is_live(session: Session, key_id: str) -> bool:
    return session.scalars(_live().where(ApiKey.id == key_id)).one_or_none() is not None


def live_key_ids(session: Session, key_ids: Collection[str]) -> frozenset[str]:
    """Those keys that still work."""
    query = _live().with_only_columns(ApiKey.id).where(ApiKey.id.in_(key_ids))
    return frozenset(session.scalars(query))


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


def replace_key(session: Session, key_id: str, *, by: str, overlap_seconds: float) -> bool:
    """Let a key end in `overlap_seconds`, or when it would anyway; False when it was replaced before."""
    ends_at = db_time(overlap_seconds)
    ends_sooner = and_(ApiKey.expires_at.is_not(None), ApiKey.expires_at < ends_at)
    return (
        session.execute(
            update(ApiKey)
            .where(ApiKey.id == key_id, ApiKey.replaced_by_id.is_(None))
            .values(replaced_by_id=by, expires_at=case((ends_sooner, ApiKey.expires_at), else_=ends_at))
            .returning(ApiKey.id)
        ).one_or_none()
        is not None
    )


def end_predecessor(session: Session, *, of: str) -> None:
    """Revoke the key whose place `of` has taken."""
    is_live = (ApiKey.replaced_by_id == of, ApiKey.revoked_at.is_(None))
    session.execute(update(ApiKey).where(*is_live).values(revoked_at=db_time()))


def touch_key(session: Session, key_id: str) -> None:
    """Note that a key was used just now, unless somebody noted it within the last minute or is noting it."""
    before = db_time(-LAST_USED_PRECISION_SECONDS)
    is_stale = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < before)
    free = select(ApiKey.id).where(ApiKey.id == key_id, is_stale)
    free = free.with_for_update(skip_locked=True, key_share=True)
    session.execute(update(ApiKey).where(ApiKey.id == free.scalar_subquery()).values(last_used_at=db_time()))


def _live() -> Select[ApiKey]:
    return select(ApiKey).where(
        ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > db_time())
    )
