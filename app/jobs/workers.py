"""Which workers there are."""

from collections.abc import Collection
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.insert import insert_if_absent
from app.db.models import Worker

SEEN_EVERY_SECONDS: Final = 10
"""A worker that polls more often is written down only this often."""


def see_worker(session: Session, *, worker_id: str, resources: Collection[str]) -> None:
    """Remember that a worker is there and what it can run."""
    wanted: list[str] = sorted(resources)
    worker = session.get(Worker, worker_id)
    if worker is None:
        now = {"started_at": db_time(), "last_seen_at": db_time()}
        insert_if_absent(session, Worker, {"id": worker_id, "resources": wanted, **now})
    elif list(worker.resources) != wanted:
        worker.resources = wanted
    else:
        touch_worker(session, worker_id)


def workers_heard_of(session: Session, *, within_seconds: float) -> list[Worker]:
    """Workers that were heard of lately, by id."""
    query = select(Worker).where(Worker.last_seen_at > db_time(-within_seconds)).order_by(Worker.id)
    return list(session.scalars(query))


def touch_worker(session: Session, worker_id: str | None) -> None:
    """Note that a worker was heard of."""
    statement = (
        update(Worker)
        .where(Worker.id == worker_id, Worker.last_seen_at < db_time(-SEEN_EVERY_SECONDS))
        .values(last_seen_at=db_time())
    )
    session.execute(statement.execution_options(synchronize_session=False))
