"""Audit events as the API shows them."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from app.audit.recording import Outcome
from app.db.base import unix_seconds
from app.db.models import AuditEvent


class AuditEventObject(BaseModel):
    """One request that asked for a change."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["audit_event"] = "audit_event"
    created_at: int
    key_id: str
    """The key that asked; an operator's may belong to another project."""
    address: str | None
    """Where the request came from."""
    request_id: str | None
    """As in the answer and in the service's logs."""
    action: str
    object_id: str | None
    """What the request named, else what it made."""
    created_id: str | None
    """What it made, where it named something, too."""
    outcome: Outcome
    status: int | None
    """Status of the answer to what was not done."""
    code: str | None
    """Code of its problem."""

    @classmethod
    def of(cls, event: AuditEvent) -> Self:
        return cls(
            id=event.id,
            created_at=unix_seconds(event.created_at),
            key_id=event.key_id,
            address=event.address,
            request_id=event.request_id,
            action=event.action,
            object_id=event.object_id,
            created_id=event.created_id,
            outcome=Outcome(event.outcome),
            status=event.status,
            code=event.code,
        )
