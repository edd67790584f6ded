"""`GET /v1/jobs/{job_id}/events`: the history of a job in pages."""

from typing import Annotated

from fastapi import Query
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import ReadSession
from app.db.models import Event, Job
from app.errors import Forbidden, NotFound, Unauthorized, Unprocessable, problem_responses
from app.following.types import TypeFilter
from app.jobs import service
from app.jobs.queries import seq_of
from app.jobs.schemas import EventOut
from app.lists import ListOf, Paging, list_of, page_of_rows
from app.routing import Router

router = Router(prefix="/v1/jobs", tags=["Following"], responses=problem_responses(Unauthorized, Forbidden))


@router.get("/{job_id}/events", responses=problem_responses(NotFound, Unprocessable))
def list_job_events(
    principal: CurrentPrincipal,
    session: ReadSession,
    job_id: str,
    page: Paging,
    types: Annotated[
        list[str] | None, Query(description="Only these types, or beginnings of them (`step_*`).")
    ] = None,
) -> ListOf[EventOut]:
    """History of a job. Events are numbered without gaps and appear in the order of their numbers, so a
    reader that goes on from the last one misses none. `after` and `before` also take a number (`seq`).
    """
    job = service.get_job(session, project_id=principal.project_id, job_id=job_id)
    query = select(Event).where(Event.job_id == job.id)
    if (of_types := TypeFilter.of(types or []).condition()) is not None:
        query = query.where(of_types)
    events, has_more = page_of_rows(
        session,
        query,
        id_column=Event.seq,
        page=page,
        cursor=lambda cursor: _event_seq(session, job, cursor),
    )
    return ListOf[EventOut](**list_of([EventOut.of(event) for event in events], has_more=has_more))


def _event_seq(session: Session, job: Job, cursor: str) -> int:
    """A number as it is, so far as there can be one; the number of an id."""
    if cursor.isdecimal() and cursor.isascii():
        return min(int(cursor), job.last_event_seq + 1)
    return seq_of(session, Event.seq, Event.id, Event.job_id == job.id, cursor)
