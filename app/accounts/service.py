"""Projects and API keys. Called inside a transaction; never commits."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts import repository
from app.accounts.keys import Scope, covers, generate_key, hash_key, hashes_equal, key_prefix
from app.db.models import ApiKey, Project
from app.errors import Conflict, NotFound

DEFAULT_PROJECT_NAME = "default"
ALL_SCOPES = (Scope.READ, Scope.WRITE, Scope.ADMIN)
_LAST_USED_PRECISION = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Who is asking: a project, and the key it sent."""

    project_id: str
    key_id: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether the key carries this scope, or `admin`."""
        return covers(self.scopes, scope)


@dataclass(frozen=True, kw_only=True, slots=True)
class Authenticated:
    """A key that was found. `is_stale`: its `last_used_at` is worth a write."""

    principal: Principal
    is_stale: bool


def ensure_default_project(session: Session) -> Project:
    """The project that exists without anybody creating it; safe when two processes start at once."""
    found = repository.project_named(session, DEFAULT_PROJECT_NAME)
    if found is not None:
        return found
    try:
        with session.begin_nested():
            project = Project(name=DEFAULT_PROJECT_NAME)
            session.add(project)
        return project
    except IntegrityError:
        winner = repository.project_named(session, DEFAULT_PROJECT_NAME)
        assert winner is not None, "the name is unique, so whoever won has it"
        return winner


def create_key(
    session: Session,
    *,
    project_id: str,
    name: str,
    scopes: Collection[Scope],
    pepper: bytes,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make a key. The second value is its text, which nobody can ask for again."""
    made = generate_key()
    key = ApiKey(
        project_id=project_id,
        name=name,
        prefix=made.prefix,
        secret_hash=hash_key(made.text, pepper=pepper),
        scopes=sorted(scope.value for scope in set(scopes)),
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    return key, made.text


def authenticate(session: Session, text: str, *, pepper: bytes) -> Authenticated | None:
    """The owner of a key, or `None` for one that is unknown, expired or revoked."""
    prefix = key_prefix(text)
    if prefix is None:
        return None
    sent = hash_key(text, pepper=pepper)
    for key in repository.live_keys_with_prefix(session, prefix):
        if hashes_equal(key.secret_hash, sent):
            return Authenticated(principal=_principal(key), is_stale=_is_stale(key.last_used_at))
    return None


def get_key(session: Session, *, project_id: str, key_id: str) -> ApiKey:
    """A key of the project.

    Raises:
        NotFound: there is none, or it was revoked.
    """
    key = repository.find_key(session, project_id=project_id, key_id=key_id)
    if key is None:
        raise _no_key(key_id)
    return key


def revoke_key(session: Session, *, principal: Principal, key_id: str) -> None:
    """Revoke a key of the caller's project.

    Raises:
        NotFound: there is none, or it was revoked before.
        Conflict: it is the key that asks, which could lock its owner out.
    """
    if key_id == principal.key_id:
        raise Conflict(
            "a key cannot revoke itself; create another one and revoke this with it", code="key_in_use"
        )
    if not repository.revoke_key(session, project_id=principal.project_id, key_id=key_id):
        raise _no_key(key_id)


def _principal(key: ApiKey) -> Principal:
    return Principal(
        project_id=key.project_id, key_id=key.id, scopes=frozenset(Scope(scope) for scope in key.scopes)
    )


def _is_stale(last_used_at: datetime | None) -> bool:
    return last_used_at is None or datetime.now(UTC) - last_used_at > _LAST_USED_PRECISION


def _no_key(key_id: str) -> NotFound:
    return NotFound(f"there is no API key {key_id!r} in this project", code="api_key_not_found")
