"""Webhook endpoints of a project, and what its user can ask of deliveries. Never commits."""

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import Select, delete, func, select
from sqlalchemy.orm import Session

from app.accounts.service import Principal
from app.db.base import db_time, new_id
from app.db.locks import wait_for_lock
from app.db.models import WebhookDelivery, WebhookEndpoint
from app.errors import Conflict, NotFound
from app.sealing import Seals
from app.webhooks.announcing import delivery_of
from app.webhooks.holding import hold_deliveries, offer_deliveries
from app.webhooks.signing import new_secret
from app.webhooks.types import DeliveryStatus, WebhookType

MAX_ENDPOINTS: Final = 20
"""Per project."""
OVERLAP_SECONDS: Final = 86_400.0
"""How long the secret before the last one signs too."""


def place_of_secret(*, project_id: str, endpoint_id: str) -> str:
    """What the sealed secrets of an endpoint are bound to."""
    return f"webhook_endpoints/{project_id}/{endpoint_id}"


def create_endpoint(
    session: Session,
    *,
    principal: Principal,
    seals: Seals,
    url: str,
    description: str,
    event_types: Collection[WebhookType],
    enabled: bool,
) -> tuple[WebhookEndpoint, str]:
    """Make an endpoint. The second value is its secret, which nobody can ask for again.

    Raises:
        Conflict: the project has as many as it may.
    """
    wait_for_lock(session, "webhook_endpoints", principal.project_id)
    num_endpoints = session.scalar(select(func.count()).select_from(select_endpoints(principal).subquery()))
    if (num_endpoints or 0) >= MAX_ENDPOINTS:
        raise Conflict(
            f"this project has {MAX_ENDPOINTS} webhook endpoints, and no project has more",
            code="too_many_webhook_endpoints",
        )
    secret = new_secret()
    endpoint = WebhookEndpoint(
        id=new_id("whe"),
        project_id=principal.project_id,
        url=url,
        description=description,
        event_types=_sorted(event_types),
        enabled=enabled,
        created_by=principal.key_id,
    )
    endpoint.secret = _sealed(seals, secret, endpoint)
    session.add(endpoint)
    session.flush()
    session.refresh(endpoint)
    return endpoint, secret


def select_endpoints(principal: Principal) -> Select[WebhookEndpoint]:
    """Statement for the endpoints of the caller's project."""
    return select(WebhookEndpoint).where(
        WebhookEndpoint.project_id == principal.project_id, WebhookEndpoint.deleted_at.is_(None)
    )


def get_endpoint(session: Session, *, principal: Principal, endpoint_id: str) -> WebhookEndpoint:
    """An endpoint of the caller's project.

    Raises:
        NotFound: there is none.
    """
    query = select_endpoints(principal).where(WebhookEndpoint.id == endpoint_id)
    endpoint = session.scalars(query).one_or_none()
    if endpoint is None:
        raise NotFound(f"there is no webhook endpoint {endpoint_id!r}", code="webhook_endpoint_not_found")
    return endpoint


def change_endpoint(
    session: Session, *, principal: Principal, endpoint_id: str, changes: dict[str, Any]
) -> WebhookEndpoint:
    """Change some of url, description, event types, and whether it is enabled.

    Enabling one that failed gives it a new start: what waits for it is sent.

    Raises:
        NotFound: there is none.
    """
    # Two at once could leave an enabled endpoint whose deliveries are held, which nothing would send.
    wait_for_lock(session, "webhook_endpoint", endpoint_id)
    endpoint = get_endpoint(session, principal=principal, endpoint_id=endpoint_id)
    if "enabled" in changes:
        # Deliveries before the endpoint, as whoever writes down a try locks them.
        move = offer_deliveries if changes["enabled"] else hold_deliveries
        move(session, endpoint.id)
    if "event_types" in changes:
        changes = {**changes, "event_types": _sorted(changes["event_types"])}
    for name, value in changes.items():
        setattr(endpoint, name, value)
    if "enabled" in changes:
        endpoint.disabled_reason = None
        endpoint.failing_since = None
    session.flush()
    return endpoint


def delete_endpoint(session: Session, *, principal: Principal, endpoint_id: str) -> None:
    """Remove an endpoint, its secrets and its deliveries.

    Raises:
        NotFound: there is none.
    """
    endpoint = get_endpoint(session, principal=principal, endpoint_id=endpoint_id)
    # Deliveries before the endpoint, as whoever writes down a try locks them.
    session.execute(delete(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint.id))
    endpoint.deleted_at = db_time()
    endpoint.secret = endpoint.old_secret = None
    endpoint.enabled = False
    session.flush()


def rotate_secret(
    session: Session, *, principal: Principal, seals: Seals, endpoint_id: str
) -> tuple[WebhookEndpoint, str]:
    """Give an endpoint a new secret. The old one signs too for a day; one that was older ends now.

    Raises:
        NotFound: there is none.
    """
    endpoint = get_endpoint(session, principal=principal, endpoint_id=endpoint_id)
    secret = new_secret()
    endpoint.old_secret, endpoint.secret = endpoint.secret, _sealed(seals, secret, endpoint)
    endpoint.old_secret_ends_at = db_time(OVERLAP_SECONDS)
    session.flush()
    session.refresh(endpoint)
    return endpoint, secret


def send_test(session: Session, *, principal: Principal, endpoint_id: str) -> WebhookDelivery:
    """Queue a webhook of the type for tests.

    Raises:
        NotFound: there is no such endpoint.
        Conflict: it is disabled.
    """
    endpoint = get_endpoint(session, principal=principal, endpoint_id=endpoint_id)
    _require_enabled(endpoint)
    delivery = delivery_of(
        project_id=endpoint.project_id,
        endpoint_id=endpoint.id,
        event_id=new_id("evt"),
        webhook_type=WebhookType.TEST,
        data={"id": endpoint.id, "object": "webhook_endpoint"},
    )
    session.add(delivery)
    session.flush()
    session.refresh(delivery)
    return delivery


def select_deliveries(endpoint: WebhookEndpoint, *, status: DeliveryStatus | None) -> Select[WebhookDelivery]:
    """Statement for the deliveries of an endpoint."""
    query = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint.id)
    return query if status is None else query.where(WebhookDelivery.status == status)


def get_delivery(session: Session, *, principal: Principal, delivery_id: str) -> WebhookDelivery:
    """A delivery of the caller's project.

    Raises:
        NotFound: there is none.
    """
    query = select(WebhookDelivery).where(
        WebhookDelivery.id == delivery_id, WebhookDelivery.project_id == principal.project_id
    )
    delivery = session.scalars(query).one_or_none()
    if delivery is None:
        raise NotFound(f"there is no webhook delivery {delivery_id!r}", code="webhook_delivery_not_found")
    return delivery


def redeliver(session: Session, *, principal: Principal, delivery_id: str) -> WebhookDelivery:
    """Send a delivery again, under the id that its receiver knows, or a waiting one now; with every retry.

    Raises:
        NotFound: there is none.
        Conflict: its endpoint is disabled.
    """
    delivery = get_delivery(session, principal=principal, delivery_id=delivery_id)
    _require_enabled(get_endpoint(session, principal=principal, endpoint_id=delivery.endpoint_id))
    query = select(WebhookDelivery).where(WebhookDelivery.id == delivery.id).with_for_update()
    delivery = session.scalars(query.execution_options(populate_existing=True)).one()
    delivery.status = DeliveryStatus.PENDING
    delivery.forgiven_tries = delivery.num_tries
    delivery.due_at = db_time()
    delivery.ended_at = None
    session.flush()
    session.refresh(delivery)
    return delivery


def _require_enabled(endpoint: WebhookEndpoint) -> None:
    if not endpoint.enabled:
        raise Conflict(
            f"{endpoint.id} is disabled, and nothing is sent there", code="webhook_endpoint_disabled"
        )


def _sealed(seals: Seals, secret: str, endpoint: WebhookEndpoint) -> str:
    place = place_of_secret(project_id=endpoint.project_id, endpoint_id=endpoint.id)
    return seals.seal(secret, of=place)


def _sorted(event_types: Collection[WebhookType]) -> list[str]:
    chosen = set(event_types)
    return [one.value for one in WebhookType if one in chosen]
