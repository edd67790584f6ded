"""The outbox relay: rings the workers' doorbell through Celery, after the commit and outside of requests.

A message says "look at the database now" and nothing else, so losing or repeating one is harmless. Without a
broker there is no doorbell: the workers poll, and the outbox is only emptied.
"""

from typing import Final, Protocol

from celery import Celery
from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.models import OutboxMessage
from app.db.session import in_transaction, read_only
from app.logs import get_logger
from fusion.failpoints import failpoint

WAKE_TASK: Final = "fusion.wake"
QUEUES: Final = ("cpu", "gpu")
PUBLISH_TIMEOUT_SECONDS: Final = 5.0
_MESSAGE_LIVES_SECONDS: Final = 60.0
"""A ring that nobody heard for so long is dropped by the broker; the reconciler rings again."""
_TAKEN_FOR_SECONDS: Final = 30.0
"""How long one relay has a message to itself; after a crash it is due again."""
_BATCH: Final = 100

log = get_logger(__name__)


class Doorbell(Protocol):
    """What can wake the workers of a queue."""

    def ring(self, resource: str) -> None:
        """Send one message.

        Raises:
            OSError, kombu.exceptions.OperationalError: the broker cannot be reached.
        """


class CeleryDoorbell:
    """Rings over a broker. Every socket operation has a limit: a hanging broker must not hang the relay."""

    def __init__(self, broker_url: str) -> None:
        self._celery = Celery("fusion", broker=broker_url, set_as_current=False)
        self._celery.conf.update(broker_settings())

    def ring(self, resource: str) -> None:
        self._celery.send_task(
            WAKE_TASK,
            queue=resource,
            expires=_MESSAGE_LIVES_SECONDS,
            ignore_result=True,
            retry=False,
        )


def broker_settings() -> dict[str, object]:
    """Celery's settings that the sender and the workers share."""
    return {
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_publish_retry": False,
        "broker_connection_timeout": PUBLISH_TIMEOUT_SECONDS,
        "broker_transport_options": {
            "socket_timeout": PUBLISH_TIMEOUT_SECONDS,
            "socket_connect_timeout": PUBLISH_TIMEOUT_SECONDS,
            "health_check_interval": 10,
            "global_keyprefix": "fusion:",
        },
    }


def open_doorbell(broker_url: str | None) -> Doorbell | None:
    """The doorbell of a broker; None where there is no broker."""
    return None if broker_url is None else CeleryDoorbell(broker_url)


def relay_outbox(engine: Engine, doorbell: Doorbell | None) -> int:
    """Send what is due; the number of messages that left the outbox.

    A message is deleted only once it was sent; what could not be sent is due again at once. Several relays
    may run: each takes its own messages.

    Raises:
        OSError, kombu.exceptions.OperationalError: the broker cannot be reached; the messages stay.
    """
    with read_only(engine) as session:
        if session.scalar(select(OutboxMessage.id).where(OutboxMessage.due_at <= db_time()).limit(1)) is None:
            return 0
    messages = in_transaction(engine, _take_due)
    failpoint("rings.taken")
    sent: list[str] = []
    try:
        for message_id, resource in messages:
            if doorbell is not None:
                doorbell.ring(resource)
            sent.append(message_id)
    finally:
        failpoint("rings.rung")
        taken = [message_id for message_id, _ in messages]
        in_transaction(engine, _put_down, sent=sent, unsent=taken[len(sent) :])
    return len(sent)


def _take_due(session: Session) -> list[tuple[str, str]]:
    due = (
        select(OutboxMessage.id)
        .where(OutboxMessage.due_at <= db_time())
        .order_by(OutboxMessage.due_at)
        .limit(_BATCH)
        .with_for_update(skip_locked=True)
    )
    statement = (
        update(OutboxMessage)
        .where(OutboxMessage.id.in_(due.scalar_subquery()))
        .values(due_at=db_time(_TAKEN_FOR_SECONDS))
        .returning(OutboxMessage.id, OutboxMessage.resource)
    )
    rows = session.execute(statement.execution_options(synchronize_session=False))
    return [(row.id, row.resource) for row in rows]


def _put_down(session: Session, *, sent: list[str], unsent: list[str]) -> None:
    session.execute(
        delete(OutboxMessage).where(OutboxMessage.id.in_(sent)),
        execution_options={"synchronize_session": False},
    )
    if unsent:
        again = update(OutboxMessage).where(OutboxMessage.id.in_(unsent)).values(due_at=db_time())
        session.execute(again.execution_options(synchronize_session=False))
