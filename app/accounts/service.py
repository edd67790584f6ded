"""API keys and who they stand for. Called inside a transaction; never commits."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from app.accounts import repository
from app.accounts.keys import generate_key, hash_key, hashes_equal, key_prefix
from app.accounts.repository import LAST_USED_PRECISION_SECONDS, KeyState
from app.accounts.scopes import Scope, covers
from app.db.base import db_time
from app.db.models import ApiKey
from app.errors import Conflict, Forbidden, NotFound, Unauthorized

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


def create_key(
    session: Session,
    *,
    project_id: str,
    name: str,
    scopes: Collection[Scope],
    pepper: bytes,
    expires_in_seconds: float | None = None,
    created_by: str | None = None,
) -> tuple[ApiKey, str]:
    """Make a key. The second value is its text, which nobody can ask for again."""
    made = generate_key()
    key = ApiKey(
        project_id=project_id,
        name=name,
        prefix=made.prefix,
        secret_hash=hash_key(made.text, pepper=pepper),
        scopes=sorted(scope.value for scope in set(scopes)),
        expires_at=None if expires_in_seconds is None else db_time(expires_in_seconds),
        created_by=created_by,
    )
    session.add(key)
    session.flush()
    session.refresh(key)
    return key, made.text


def grant_key(
    session: Session,
    *,
    principal: Principal,
    name: str,
    scopes: Collection[Scope],
    pepper: bytes,
    expires_in_seconds: float | None = None,
) -> tuple[ApiKey, str]:
    """Make a key of the caller's project, which may do nothing that the caller may not.

    Raises:
        Forbidden: it would.
    """
    beyond = sorted(scope.value for scope in scopes if not principal.may(scope))
    if beyond:
        raise Forbidden(
            f"this API key cannot give what it does not have: {', '.join(beyond)}", code="scope_not_yours"
        )
    return create_key(
        session,
        project_id=principal.project_id,
        name=name,
        scopes=scopes,
        pepper=pepper,
        expires_in_seconds=expires_in_seconds,
        created_by=principal.key_id,
    )


def rotate_key(
    session: Session, *, principal: Principal, key_id: str, overlap_seconds: float, pepper: bytes
) -> tuple[ApiKey, str]:
    """Make a key that takes the place of another one, which works for `overlap_seconds` more.

    At most two keys of one chain work: the one that `key_id` replaced ends now.

    Raises:
        NotFound: there is no such key.
        Conflict: it has expired, or another key has taken its place already.
        Forbidden: it carries scopes that the caller lacks.
    """
    old = get_key(session, project_id=principal.project_id, key_id=key_id)
    if not repository.is_live(session, old.id):
        raise Conflict(f"{key_id} has expired, and nothing of it can be taken over", code="api_key_expired")
    new, text = grant_key(
        session,
        principal=principal,
        name=old.name,
        scopes=[Scope(scope) for scope in old.scopes],
        pepper=pepper,
    )
    new.expires_at = old.expires_at
    if not repository.replace_key(session, old.id, by=new.id, overlap_seconds=overlap_seconds):
        raise Conflict(f"{key_id} was rotated before; rotate its successor", code="api_key_rotated")
    repository.end_predecessor(session, of=old.id)
    session.flush()
    session.refresh(new)
    return new, text


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


def live_key_ids(session: Session, key_ids: Collection[str]) -> frozenset[str]:
    """Those keys that still work: for whoever answers one request for a long time."""
    return repository.live_key_ids(session, key_ids)


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
