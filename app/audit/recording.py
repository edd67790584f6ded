"""Writes the audit event of a request: with the change that it makes, or after the answer when it made none.

So a change is never without its event, and no request has two: the event has its id before anything happens.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from fastapi import Request
from sqlalchemy import Engine, inspect
from sqlalchemy.orm import Session

from app.db.base import new_id
from app.db.insert import insert_if_absent
from app.db.json_values import storable
from app.db.models import AuditEvent
from app.db.session import in_transaction
from app.logs import current_request_id

_MAX_ID_LENGTH: Final = 100


class Outcome(StrEnum):
    """What became of a request."""

    DONE = "done"
    REFUSED = "refused"
    """It was wrong, or not allowed."""
    FAILED = "failed"
    """The service could not, or its answer was cut off."""


@dataclass(kw_only=True)
class AuditNote:
    """The audit event of a request that is under way (`app.db.notes.Note`)."""

    engine: Engine
    id: str
    project_id: str
    key_id: str
    address: str | None
    request_id: str | None
    action: str
    collection: str
    """The table that the path names: what is made there is what the request is about."""
    named_id: str | None
    made_id: str | None = None
    is_written: bool = False

    @classmethod
    def of(cls, request: Request, *, engine: Engine, project_id: str, key_id: str) -> "AuditNote":
        route = request.scope["route"]
        named = next(iter(request.path_params.values()), None)
        return cls(
            engine=engine,
            id=new_id("audit"),
            project_id=project_id,
            key_id=key_id,
            address=request.client.host if request.client is not None else None,
            request_id=current_request_id.get(),
            action=route.name,
            # OpenAI's `/v1/fine_tuning/jobs` are our jobs.
            collection=route.path.removeprefix("/v1/").removeprefix("fine_tuning/").partition("/")[0],
            named_id=None if named is None else storable(str(named))[:_MAX_ID_LENGTH],
        )

    def made(self, row: object) -> None:
        if self.made_id is None and inspect(row).mapper.local_table.name == self.collection:
            self.made_id = getattr(row, "id", None)

    def write(self, session: Session) -> None:
        if not self.is_written:
            self._insert(session, outcome=Outcome.DONE)

    def written(self) -> None:
        self.is_written = True

    def write_answer(self, *, status: int | None, code: str | None) -> None:
        """Write down a request that committed nothing. `status`: of its answer; None when there was none."""
        if not self.is_written:
            outcome = outcome_of(status)
            in_transaction(self.engine, self._insert, outcome=outcome, status=status, code=code)

    def facts(self, outcome: Outcome) -> dict[str, Any]:
        """The event but for its status."""
        made_id = self.made_id if outcome is Outcome.DONE else None
        return {
            "id": self.id,
            "project_id": self.project_id,
            "key_id": self.key_id,
            "address": self.address,
            "request_id": self.request_id,
            "action": self.action,
            "object_id": self.named_id or made_id,
            "created_id": None if self.named_id is None else made_id,
            "outcome": outcome.value,
        }

    def _insert(
        self, session: Session, *, outcome: Outcome, status: int | None = None, code: str | None = None
    ) -> None:
        answer = (
            {"status": None, "code": None} if outcome is Outcome.DONE else {"status": status, "code": code}
        )
        # An answer to the commit that got lost may be followed by a second try.
        insert_if_absent(session, AuditEvent, self.facts(outcome) | answer)


def outcome_of(status: int | None) -> Outcome:
    """What the status of an answer says about the request."""
    if status is None or status >= 500:
        return Outcome.FAILED
    return Outcome.REFUSED if status >= 400 else Outcome.DONE
