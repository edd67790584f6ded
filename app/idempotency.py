"""Requests that are done once, however often they arrive: `Idempotency-Key`.

The answer is stored in the transaction that did the work, so that either both are there or neither; a
repetition gets the same status and body. While that transaction is open the key is locked, and a repetition
is told to come back. A refusal stores nothing: whoever mends what was wrong may use the key again.

Compatible with draft-ietf-httpapi-idempotency-key-header-07; a key without quotes is accepted too.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from app.accounts.dependencies import CurrentPrincipal
from app.db.base import db_time
from app.db.locks import try_lock
from app.db.models import IdempotencyKey
from app.db.session import read_only, transaction
from app.errors import Conflict, FieldProblem, Unprocessable

KEPT_SECONDS: Final = 7 * 86_400.0
REPLAYED_HEADER: Final = "Idempotent-Replayed"
_MAX_KEY_LENGTH: Final = 255
_BARE: Final = re.compile(r"[!#-~][!-~]*")
_QUOTED: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])+)"')

IdempotencyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description=(
            "Makes the request safe to repeat: the same key with the same request gets the answer of the "
            "first one, for 7 days. At most 255 visible characters, with or without quotes (RFC 8941)."
        ),
        examples=["0190f6a2-3f6e-7c3a-9d55-5a2f6b1f0c11"],
        json_schema_extra={
            "minLength": 1,
            "maxLength": _MAX_KEY_LENGTH,
            "pattern": f"^(?:{_BARE.pattern}|{_QUOTED.pattern})$",
        },
    ),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class RepeatableRequest:
    """What was asked, in a form that tells a repetition from another request."""

    project_id: str
    key: str | None
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a request is answered with, and stored when it had a key."""

    body: BaseModel
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


async def _repeatable_request(
    request: Request, principal: CurrentPrincipal, idempotency_key: IdempotencyHeader = None
) -> RepeatableRequest:
    return RepeatableRequest(
        project_id=principal.project_id,
        key=None if idempotency_key is None else read_key(idempotency_key),
        digest=request_digest(
            request.method, request.url.path, request.query_params.multi_items(), await request.body()
        ),
    )


Repeatable = Annotated[RepeatableRequest, Depends(_repeatable_request)]


def answer_once(session: Session, asked: RepeatableRequest, act: Callable[[], Answer]) -> Response:
    """Act and answer, or give the stored answer to a request that was made before with this key.

    Raises:
        Conflict: a request with this key is being answered at this moment.
        Unprocessable: the key was used for another request.
    """
    if asked.key is None:
        return _response(act())
    if not try_lock(session, "idempotency", asked.project_id, asked.key):
        raise Conflict(
            "a request with this Idempotency-Key is being answered",
            code="idempotency_in_progress",
            headers={"Retry-After": "1", "x-should-retry": "true"},
        )
    kept = session.get(IdempotencyKey, (asked.project_id, asked.key))
    if kept is not None:
        return _replay(kept, asked)
    answer = act()
    response = _response(answer)
    session.add(
        IdempotencyKey(
            project_id=asked.project_id,
            key=asked.key,
            request_digest=asked.digest,
            status=answer.status,
            headers=dict(answer.headers),
            body=bytes(response.body).decode(),
        )
    )
    return response


def read_key(text: str) -> str:
    """The key that a header holds, out of its quotes.

    Raises:
        Unprocessable: it is empty, too long, or neither a bare token nor a quoted string.
    """
    quoted = _QUOTED.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if len(key) > _MAX_KEY_LENGTH or not (quoted or _BARE.fullmatch(text)):
        detail = f"a key has 1 to {_MAX_KEY_LENGTH} visible ASCII characters; quotes around it must be closed"
        code = "idempotency_key_invalid"
        problem = FieldProblem(pointer="header:Idempotency-Key", code=code, detail=detail)
        raise Unprocessable(f"{problem.pointer}: {detail}", code=code, errors=[problem])
    return key


def request_digest(method: str, path: str, query: list[tuple[str, str]], body: bytes) -> str:
    """sha256 over what is asked. Spaces and order count neither in the query nor in a JSON body."""
    asked = json.dumps([method, path, sorted(query)]).encode()
    return hashlib.sha256(asked + b"\n" + _canonical(body)).hexdigest()


def forget_old_keys(engine: Engine, *, kept_seconds: float = KEPT_SECONDS, dry_run: bool = False) -> int:
    """Delete the keys that nobody may rely on any more; how many there were."""
    old = IdempotencyKey.created_at < db_time(-kept_seconds)
    if dry_run:
        with read_only(engine) as session:
            return session.scalar(select(func.count()).select_from(IdempotencyKey).where(old)) or 0
    with transaction(engine) as session:
        return len(session.scalars(delete(IdempotencyKey).where(old).returning(IdempotencyKey.key)).all())


def _replay(kept: IdempotencyKey, asked: RepeatableRequest) -> Response:
    if kept.request_digest != asked.digest:
        raise Unprocessable(
            f"Idempotency-Key {kept.key!r} was used for another request: "
            "method, path, query or body were different",
            code="idempotency_key_reused",
        )
    headers = {**kept.headers, REPLAYED_HEADER: "true"}
    return Response(kept.body, status_code=kept.status, headers=headers, media_type="application/json")


def _response(answer: Answer) -> Response:
    return Response(
        answer.body.model_dump_json(),
        status_code=answer.status,
        headers=dict(answer.headers),
        media_type="application/json",
    )


def _canonical(body: bytes) -> bytes:
    try:
        return json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return body
