"""How long deliveries stay on record."""

from typing import Final

from sqlalchemy import Engine, delete, func, select

from app.db.base import db_time
from app.db.models import WebhookDelivery
from app.db.session import read_only, transaction

KEPT_SECONDS: Final = 30 * 86_400.0


def forget_old_deliveries(
    engine: Engine, *, kept_seconds: float = KEPT_SECONDS, dry_run: bool = False
) -> int:
    """Delete deliveries of long ago, also those that wait for a disabled endpoint; how many there were."""
    old = WebhookDelivery.created_at < db_time(-kept_seconds)
    if dry_run:
        with read_only(engine) as session:
            return session.scalar(select(func.count()).select_from(WebhookDelivery).where(old)) or 0
    with transaction(engine) as session:
        return len(session.scalars(delete(WebhookDelivery).where(old).returning(WebhookDelivery.id)).all())
