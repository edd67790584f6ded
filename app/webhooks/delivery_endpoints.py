"""`/v1/webhook_deliveries`: one event for one endpoint."""

from fastapi import status

from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import ReadSession, WriteSession
from app.errors import Conflict, Forbidden, NotFound, Unauthorized, problem_responses
from app.routing import Router
from app.webhooks import service
from app.webhooks.schemas import WebhookDeliveryObject

router = Router(
    prefix="/v1/webhook_deliveries", tags=["Webhooks"], responses=problem_responses(Unauthorized, Forbidden)
)


@router.get("/{webhook_delivery_id}", responses=problem_responses(NotFound))
def get_webhook_delivery(
    principal: CurrentPrincipal, session: ReadSession, webhook_delivery_id: str
) -> WebhookDeliveryObject:
    """One delivery, with every try."""
    found = service.get_delivery(session, principal=principal, delivery_id=webhook_delivery_id)
    return WebhookDeliveryObject.of(found)


@router.post(
    "/{webhook_delivery_id}/redeliver",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problem_responses(NotFound, Conflict),
)
def redeliver_webhook(
    principal: CurrentPrincipal, session: WriteSession, webhook_delivery_id: str
) -> WebhookDeliveryObject:
    """Send it again, or now where it waits. The receiver knows it by the `webhook-id` that it had."""
    queued = service.redeliver(session, principal=principal, delivery_id=webhook_delivery_id)
    return WebhookDeliveryObject.of(queued)
