"""The queue of deliveries: who may send which one now, and what becomes of it afterwards.

A delivery is claimed for a while and sent outside of any transaction. Whoever claimed it last may say how it
ended: the number of the try is the fence. After a crash between sending and saying so it is sent again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from app.db.base import db_time
from app.db.models import WebhookDelivery, WebhookEndpoint
from app.retries import next_try_in
from app.webhooks.announcing import announce
from app.webhooks.holding import hold_deliveries
from app.webhooks.schedule import DISABLED_AFTER_SECONDS, RETRY_SECONDS
from app.webhooks.types import DeliveryStatus, DisabledReason, WebhookType

LEASE_SECONDS: Final = 60.0
"""Longer than a try takes, the resolution of a name included."""
MAX_AT_ONCE_PER_ENDPOINT: Final = 2
MAX_AT_ONCE_PER_PROJECT: Final = 4
"""So that receivers which hang, also several of a project, hold up nobody else's webhooks."""
_TRIES_TOLD: Final = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    """A delivery to be tried now, with what that takes. `number`: of the try, and its fence."""

    id: str
    number: int
    project_id: str
    endpoint_id: str
    event_id: str
    webhook_type: str
    data: dict[str, Any]
    created_at: datetime
    url: str
    sealed_secrets: Sequence[str]
    """Those that are valid now, the newest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Try:
    """How a try ended. `is_receivers`: whether the receiver is to blame for a failure."""

    started_at: int
    seconds: float
    status: int | None = None
    error: str | None = None
    message: str | None = None
    asked_seconds: float | None = None
    is_receivers: bool = True

    @property
    def is_success(self) -> bool:
        return self.error is None

    @property
    def is_gone(self) -> bool:
        return self.status == 410


def something_is_due(session: Session) -> bool:
    """Whether `claim` would find something."""
    return session.scalar(_due().limit(1)) is not None


def claim(session: Session, *, lease_seconds: float = LEASE_SECONDS) -> Claimed | None:
    """Take the delivery that is due for longest, or None."""
    first = (
        _due()
        .order_by(WebhookDelivery.due_at, WebhookDelivery.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=WebhookDelivery)
    )
    statement = (
        update(WebhookDelivery)
        .where(WebhookDelivery.id.in_(first.scalar_subquery()))
        .values(num_tries=WebhookDelivery.num_tries + 1, leased_until=db_time(lease_seconds))
        .returning(WebhookDelivery.id)
    )
    delivery_id = session.scalar(statement.execution_options(synchronize_session=False))
    return None if delivery_id is None else _claimed(session, delivery_id)


def record(
    session: Session, claimed: Claimed, tried: Try, *, pauses: Sequence[float] = RETRY_SECONDS
) -> None:
    """Write down how a try ended; nothing when somebody else has the delivery meanwhile."""
    query = select(WebhookDelivery).where(
        WebhookDelivery.id == claimed.id,
        WebhookDelivery.num_tries == claimed.number,
        WebhookDelivery.status == DeliveryStatus.PENDING,
    )
    delivery = session.scalars(query.with_for_update()).one_or_none()
    if delivery is None:
        return
    delivery.leased_until = None
    delivery.tries = [*delivery.tries, _told(claimed.number, tried)][-_TRIES_TOLD:]
    num_tries = delivery.num_tries - delivery.forgiven_tries
    pause = next_try_in(num_tries, asked_seconds=tried.asked_seconds, pauses=pauses)
    if tried.is_success or tried.is_gone or pause is None:
        delivery.status = DeliveryStatus.DELIVERED if tried.is_success else DeliveryStatus.FAILED
        delivery.ended_at = db_time()
    else:
        delivery.due_at = db_time(pause)
    session.flush()
    _judge(session, claimed, tried)


def _due() -> Select[Any]:
    """Ids of the deliveries that may be sent now: those of an enabled endpoint, the oldest of each job."""
    earlier = aliased(WebhookDelivery)
    is_blocked = exists().where(
        earlier.job_id == WebhookDelivery.job_id,
        earlier.endpoint_id == WebhookDelivery.endpoint_id,
        earlier.seq < WebhookDelivery.seq,
        earlier.status == DeliveryStatus.PENDING,
    )
    return (
        select(WebhookDelivery.id)
        .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
        .where(
            WebhookDelivery.status == DeliveryStatus.PENDING,
            WebhookDelivery.due_at <= db_time(),
            or_(WebhookDelivery.leased_until.is_(None), WebhookDelivery.leased_until <= db_time()),
            WebhookEndpoint.enabled.is_(True),
            WebhookEndpoint.deleted_at.is_(None),
            ~is_blocked,
            WebhookDelivery.endpoint_id.not_in(_busy("endpoint_id", MAX_AT_ONCE_PER_ENDPOINT)),
            WebhookDelivery.project_id.not_in(_busy("project_id", MAX_AT_ONCE_PER_PROJECT)),
        )
    )


def _busy(column: str, limit: int) -> Select[Any]:
    """Whose deliveries are being sent, as many at once as may."""
    other = aliased(WebhookDelivery)
    whose = getattr(other, column)
    return select(whose).where(other.leased_until > db_time()).group_by(whose).having(func.count() >= limit)


def _claimed(session: Session, delivery_id: str) -> Claimed:
    old_is_valid = WebhookEndpoint.old_secret_ends_at > db_time()
    query = (
        select(WebhookDelivery, WebhookEndpoint, old_is_valid)
        .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
        .where(WebhookDelivery.id == delivery_id)
        .execution_options(populate_existing=True)
    )
    delivery, endpoint, has_old = session.execute(query).one()
    sealed = [endpoint.secret, endpoint.old_secret if has_old else None]
    return Claimed(
        id=delivery.id,
        number=delivery.num_tries,
        project_id=delivery.project_id,
        endpoint_id=endpoint.id,
        event_id=delivery.event_id,
        webhook_type=delivery.type,
        data=delivery.data,
        created_at=delivery.created_at,
        url=endpoint.url,
        sealed_secrets=[secret for secret in sealed if secret is not None],
    )


def _judge(session: Session, claimed: Claimed, tried: Try) -> None:
    """Note at the endpoint that something arrived, or did not, and disable one that is gone."""
    endpoint = update(WebhookEndpoint).where(WebhookEndpoint.id == claimed.endpoint_id)
    if tried.is_success:
        endpoint = endpoint.where(WebhookEndpoint.failing_since.is_not(None)).values(failing_since=None)
        session.execute(endpoint.execution_options(synchronize_session=False))
    elif tried.is_gone:
        _disable(session, claimed, reason=DisabledReason.GONE)
    elif tried.is_receivers:
        since = func.coalesce(WebhookEndpoint.failing_since, db_time())
        session.execute(endpoint.values(failing_since=since).execution_options(synchronize_session=False))
        long_ago = WebhookEndpoint.failing_since < db_time(-DISABLED_AFTER_SECONDS)
        is_hopeless = select(WebhookEndpoint.id).where(WebhookEndpoint.id == claimed.endpoint_id, long_ago)
        if session.scalar(is_hopeless) is not None:
            _disable(session, claimed, reason=DisabledReason.FAILING)


def _disable(session: Session, claimed: Claimed, *, reason: DisabledReason) -> None:
    statement = (
        update(WebhookEndpoint)
        .where(WebhookEndpoint.id == claimed.endpoint_id, WebhookEndpoint.enabled.is_(True))
        .values(enabled=False, disabled_reason=reason)
        .returning(WebhookEndpoint.id)
        .execution_options(synchronize_session=False)
    )
    if session.scalar(statement) is not None:
        hold_deliveries(session, claimed.endpoint_id)
        announce(
            session,
            project_id=claimed.project_id,
            webhook_type=WebhookType.ENDPOINT_DISABLED,
            data={"id": claimed.endpoint_id, "object": "webhook_endpoint", "reason": reason},
        )


def _told(number: int, tried: Try) -> dict[str, Any]:
    return {
        "number": number,
        "started_at": tried.started_at,
        "duration_ms": round(tried.seconds * 1000),
        "status": tried.status,
        "error": tried.error,
        "message": tried.message,
    }
