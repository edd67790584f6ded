"""How long deliveries stay on record."""

from typing import Final

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.models import WebhookDelivery
from app.db.session import in_transaction, read_only

KEPT_SECONDS: Final = 30 * 86_400.0
_ROWS_AT_ONCE: Final = 1000


def forget_old_deliveries(
    engine: Engine, *, kept_seconds: float = KEPT_SECONDS, dry_run: bool = False
) -> int:
    """Delete deliveries of long ago, also those that wait for a disabled endpoint; how many there were."""
    if dry_run:
        old = WebhookDelivery.created_at < db_time(-kept_seconds)
        with read_only(engine) as session:
            return session.scalar(select(func.count()).select_from(WebhookDelivery).where(old)) or 0
    num = 0
    while found := in_transaction(engine, _forget_some, kept_seconds=kept_seconds):
        num += found
    return num


def _forget_some(session: Session, *, kept_seconds: float) -> int:
    """In a transaction that nobody waits for long. What somebody is sending is left to the next round."""
    some = (
        select(WebhookDelivery.id)
        .where(WebhookDelivery.created_at < db_time(-kept_seconds))
        .order_by(WebhookDelivery.created_at)
        .limit(_ROWS_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    statement = delete(WebhookDelivery).where(WebhookDelivery.id.in_(some)).returning(WebhookDelivery.id)
    return len(session.scalars(statement.execution_options(synchronize_session=False)).all())
