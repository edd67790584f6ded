"""Telling a project's endpoints of something, in the transaction in which it happens."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.base import new_id
from app.db.json_values import storable
from app.db.models import WebhookDelivery, WebhookEndpoint
from app.webhooks.types import DeliveryStatus, WebhookType


def announce(
    session: Session,
    *,
    project_id: str,
    webhook_type: WebhookType,
    data: Mapping[str, Any],
    event_id: str | None = None,
    job_id: str | None = None,
    seq: int = 0,
) -> None:
    """Write a delivery for every endpoint of the project that asked for this type.

    Args:
        data: what the webhook says; thin, for receivers limit what they read. It holds the `id` to ask for.
        event_id: of the history of the job; a new one where it is about no job.
        seq: place in that history. Deliveries of one job arrive in this order.
    """
    enabled = select(WebhookEndpoint.id, WebhookEndpoint.event_types).where(
        WebhookEndpoint.project_id == project_id,
        WebhookEndpoint.enabled.is_(True),
        WebhookEndpoint.deleted_at.is_(None),
    )
    event_id = event_id or new_id("evt")
    for endpoint_id, event_types in session.execute(enabled).all():
        if webhook_type in event_types:
            session.add(
                delivery_of(
                    project_id=project_id,
                    endpoint_id=endpoint_id,
                    event_id=event_id,
                    webhook_type=webhook_type,
                    data=data,
                    job_id=job_id,
                    seq=seq,
                )
            )


def delivery_of(
    *,
    project_id: str,
    endpoint_id: str,
    event_id: str,
    webhook_type: WebhookType,
    data: Mapping[str, Any],
    job_id: str | None = None,
    seq: int = 0,
) -> WebhookDelivery:
    """A delivery that is due at once."""
    return WebhookDelivery(
        project_id=project_id,
        endpoint_id=endpoint_id,
        event_id=event_id,
        type=webhook_type,
        data=storable(dict(data)),
        job_id=job_id,
        seq=seq,
        status=DeliveryStatus.PENDING,
    )
