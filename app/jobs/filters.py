"""What a list of jobs can be narrowed to, and the statement that finds them.

Whatever the filters, the ids of a page come from one index (`ix_jobs_listed`), in the order of the list; a
label is looked up in the index of labels, which has the same order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import Depends, Query, Request
from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from app.db.base import is_id
from app.db.models import Job, JobLabel
from app.db.models.job import search_text
from app.errors import FieldProblem, Unprocessable
from app.jobs.labels import METADATA, TAG, TagParameter, checked, metadata_of_query
from app.jobs.lifecycle import JobStatus
from app.lists import PageRequest, page_of_rows
from fusion.plan import Stage
from fusion.spec import Preset

_LATEST: Final = 253_402_300_798
"""The last second but one of the year 9999: the one after it is a time as well."""
_NO_NUL: Final = r"^[^\x00]*$"

Moment = Annotated[int | None, Query(ge=0, le=_LATEST)]


@dataclass(frozen=True, kw_only=True, slots=True)
class JobFilters:
    """Several statuses, stages or strategies: any of them. Several tags or pairs: all of them."""

    statuses: Sequence[JobStatus] = ()
    stages: Sequence[Stage] = ()
    strategies: Sequence[Preset] = ()
    tags: Sequence[str] = ()
    metadata: Sequence[tuple[str, str]] = ()
    without_metadata: bool = False
    """Only jobs that have none."""
    created_after: datetime | None = None
    created_before: datetime | None = None
    created_by: str | None = None
    text: str = ""
    """Part of the name or the id."""

    @property
    def labels(self) -> list[tuple[str, str, str]]:
        """(kind, key, value); pairs first, of which fewer jobs share one."""
        pairs = [(METADATA, key, value) for key, value in self.metadata]
        return [*pairs, *((TAG, tag, "") for tag in self.tags)]


async def _job_filters(
    request: Request,
    job_status: Annotated[
        list[JobStatus] | None, Query(alias="status", description="Repeat it to allow several.")
    ] = None,
    stage: Annotated[
        list[Stage] | None, Query(description="What is being done or comes next. Repeat it to allow several.")
    ] = None,
    strategy: Annotated[
        list[Preset] | None, Query(description="Preset of the strategy. Repeat it to allow several.")
    ] = None,
    tag: TagParameter = None,
    created_after: Annotated[Moment, Query(description="Unix seconds.")] = None,
    created_before: Annotated[Moment, Query(description="Unix seconds.")] = None,
    created_by: Annotated[
        str | None, Query(pattern=_NO_NUL, max_length=40, description="Id of the API key.")
    ] = None,
    q: Annotated[
        str, Query(pattern=_NO_NUL, max_length=200, description="Part of the name or the id, in any case.")
    ] = "",
) -> JobFilters:
    pairs = metadata_of_query(request)
    labels = checked(tags=tag or [], metadata=dict(pairs))
    return JobFilters(
        statuses=job_status or (),
        stages=stage or (),
        strategies=strategy or (),
        tags=tuple(dict.fromkeys(labels.tags)),
        metadata=tuple(dict.fromkeys(pairs)),
        # Times are shown in whole seconds, so those of the second itself are not after it.
        created_after=None if created_after is None else _moment(created_after) + timedelta(seconds=1),
        created_before=None if created_before is None else _moment(created_before),
        created_by=created_by,
        text=q,
    )


FiltersOfRequest = Annotated[JobFilters, Depends(_job_filters)]


def require_job_cursors(page: PageRequest) -> None:
    """A cursor need not exist any more, but it has to be one of a list of jobs.

    Raises:
        Unprocessable: it is not.
    """
    problems = [
        FieldProblem(pointer=f"query:{name}", code="cursor_invalid", detail=f"{cursor!r} is no id of a job")
        for name, cursor in (("after", page.after), ("before", page.before))
        if cursor is not None and not is_id(cursor, prefix="job")
    ]
    if problems:
        detail = "; ".join(f"{problem.pointer}: {problem.detail}" for problem in problems)
        raise Unprocessable(detail, code="cursor_invalid", errors=problems)


def page_of_jobs(
    session: Session, *, project_id: str, filters: JobFilters, page: PageRequest
) -> tuple[list[Job], bool]:
    """The jobs of a page, and whether more follow."""
    query, id_column = _matching(project_id, filters)
    ids, has_more = page_of_rows(session, query, id_column=id_column, page=page)
    found = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(ids)))}
    return [found[job_id] for job_id in ids], has_more


def count_by_status(session: Session, *, project_id: str, filters: JobFilters) -> dict[JobStatus, int]:
    """How many jobs there are in each status."""
    matching, _ = _matching(project_id, filters)
    query = matching.with_only_columns(Job.status, func.count()).group_by(Job.status)
    found = {JobStatus(row[0]): row[1] for row in session.execute(query)}
    return {status: found.get(status, 0) for status in JobStatus}


def _matching(project_id: str, filters: JobFilters) -> tuple[Select[str], InstrumentedAttribute[str]]:
    """Statement for the ids of jobs, and the column that they are ordered by."""
    query = select(Job.id).where(Job.project_id == project_id, Job.deleted_at.is_(None))
    query = query.where(*_conditions(filters))
    id_column: InstrumentedAttribute[str] = Job.id
    for kind, key, value in filters.labels:
        label = aliased(JobLabel)
        of_label = (label.project_id == project_id, label.kind == kind, label.key == key)
        query = query.join(label, and_(label.job_id == Job.id, *of_label, label.value == value))
        id_column = label.job_id if id_column is Job.id else id_column
    return query, id_column


def _conditions(filters: JobFilters) -> list[ColumnElement[bool]]:
    several: list[tuple[InstrumentedAttribute[Any], Sequence[str]]] = [
        (Job.status, filters.statuses),
        (Job.stage, filters.stages),
        (Job.strategy, filters.strategies),
    ]
    conditions: list[ColumnElement[bool]] = [column.in_(values) for column, values in several if values]
    if filters.created_after is not None:
        conditions.append(Job.created_at >= filters.created_after)
    if filters.created_before is not None:
        conditions.append(Job.created_at < filters.created_before)
    if filters.created_by is not None:
        conditions.append(Job.created_by == filters.created_by)
    if filters.without_metadata:
        label = aliased(JobLabel)
        conditions.append(~exists().where(label.job_id == Job.id, label.kind == METADATA))
    if filters.text:
        wanted = search_text(filters.text)
        columns = (Job.search_text, Job.id)
        conditions.append(or_(*(column.contains(wanted, autoescape=True) for column in columns)))
    return conditions


def _moment(unix_seconds: int) -> datetime:
    return datetime.fromtimestamp(unix_seconds, tz=UTC)
