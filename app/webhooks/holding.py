"""What waits for an endpoint that is disabled is not due, however long it waits."""

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.models import WebhookDelivery
from app.webhooks.types import DeliveryStatus


def hold_deliveries(session: Session, endpoint_id: str) -> None:
    """Let nothing that waits for an endpoint be due; what is being sent at the moment may stay so.

    Whoever looks for what is due asks for the endpoint as well, so that those, and what is announced in this
    very moment, are not sent either.
    """
    waiting = (
        select(WebhookDelivery.id)
        .where(*_waiting_for(endpoint_id), WebhookDelivery.due_at.is_not(None))
        # Whoever records a try has the row of its delivery and waits for that of the endpoint.
        .with_for_update(skip_locked=True)
    )
    statement = update(WebhookDelivery).where(WebhookDelivery.id.in_(waiting)).values(due_at=None)
    session.execute(statement.execution_options(synchronize_session=False))


def offer_deliveries(session: Session, endpoint_id: str) -> None:
    """Undo `hold_deliveries`: everything is due at once."""
    statement = update(WebhookDelivery).where(*_waiting_for(endpoint_id), WebhookDelivery.due_at.is_(None))
    session.execute(statement.values(due_at=db_time()).execution_options(synchronize_session=False))


def _waiting_for(endpoint_id: str) -> tuple[ColumnElement[bool], ...]:
    return (
        WebhookDelivery.endpoint_id == endpoint_id,
        WebhookDelivery.status == DeliveryStatus.PENDING,
    )
