"""The fence: an attempt's writes count while it still has its step, and are refused afterwards.

It stands below the packages that write on behalf of attempts: jobs (progress, endings) and artifacts (rows).
"""

from typing import Final

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session

from app.db.models import Step

# The one status under which an attempt may write; the states themselves belong to app.jobs.
_RUNNING: Final = "running"


def is_held(step_id: str, attempt: int) -> ColumnElement[bool]:
    """The guard of an attempt's writes to its step: it still has it."""
    return and_(Step.id == step_id, Step.status == _RUNNING, Step.attempt == attempt)


def hold_step(session: Session, *, step_id: str, attempt: int) -> bool:
    """Whether the attempt still has its step; until the transaction ends, it cannot lose it.

    Whoever writes other rows on behalf of an attempt asks this first, in the same transaction.
    """
    query = select(Step.id).where(is_held(step_id, attempt)).with_for_update(key_share=True)
    return session.scalar(query) is not None
