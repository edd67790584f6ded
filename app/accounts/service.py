"""Projects and API keys. Called inside a transaction; never commits."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts import repository
from app.accounts.keys import generate_key, hash_key, hashes_equal, key_prefix
from app.accounts.repository import LAST_USED_PRECISION_SECONDS, KeyState
from app.accounts.scopes import Scope, covers
from app.db.models import ApiKey, Project
from app.errors import Conflict, NotFound, Unauthorized

DEFAULT_PROJECT_NAME = "default"
_LAST_USED_PRECISION = timedelta(seconds=LAST_USED_PRECISION_SECONDS)
_REFUSALS = {
    KeyState.EXPIRED: ("api_key_expired", "the API key has expired"),
    KeyState.REVOKED: ("api_key_revoked", "the API key was revoked"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Who is asking: a project, and the key it sent."""

    project_id: str
    key_id: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether the key carries this scope, or one that includes it."""
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


def authenticate(session: Session, text: str, *, pepper: bytes) -> Authenticated:
    """The owner of a key.

    Raises:
        Unauthorized: it does not work. Only whoever sends the whole key is told that it once did.
    """
    sent = hash_key(text, pepper=pepper)
    for key, state in repository.keys_with_prefix(session, key_prefix(text) or ""):
        if not hashes_equal(key.secret_hash, sent):
            continue
        if state is KeyState.LIVE:
            return Authenticated(principal=_principal(key), is_stale=_is_stale(key.last_used_at))
        code, reason = _REFUSALS[state]
        raise Unauthorized(reason, code=code)
    raise Unauthorized("there is no such API key")


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
