"""`/v1/jobs` as a list, and how many jobs there are."""

from typing import Any, Final

from fastapi import APIRouter

from app.accounts.dependencies import CurrentPrincipal
from app.db.base import is_id
from app.db.dependencies import ReadSession
from app.errors import FieldProblem, Forbidden, Unauthorized, Unprocessable, problem_responses
from app.jobs import queries
from app.jobs.filters import FiltersOfRequest, count_by_status, page_of_jobs
from app.jobs.labels import METADATA_PARAMETER
from app.jobs.schemas import JobCounts, JobOut
from app.lists import ListOf, PageRequest, Paging, list_of

router = APIRouter(prefix="/v1/jobs", tags=["Jobs"], responses=problem_responses(Unauthorized, Forbidden))

_WITH_METADATA: Final[dict[str, Any]] = {"parameters": [METADATA_PARAMETER]}


@router.get("", responses=problem_responses(Unprocessable), openapi_extra=_WITH_METADATA)
def list_jobs(
    principal: CurrentPrincipal, session: ReadSession, filters: FiltersOfRequest, page: Paging
) -> ListOf[JobOut]:
    """Jobs of the project, the newest first.

    Several statuses, stages or strategies mean any of them; several tags or pairs of metadata mean all.
    """
    _require_cursors(page)
    jobs, has_more = page_of_jobs(session, project_id=principal.project_id, filters=filters, page=page)
    return ListOf[JobOut](**list_of(queries.show_jobs(session, jobs), has_more=has_more))


@router.get("/counts", responses=problem_responses(Unprocessable), openapi_extra=_WITH_METADATA)
def count_jobs(principal: CurrentPrincipal, session: ReadSession, filters: FiltersOfRequest) -> JobCounts:
    """How many jobs there are by status, with the filters of the list."""
    by_status = count_by_status(session, project_id=principal.project_id, filters=filters)
    return JobCounts(total=sum(by_status.values()), by_status=by_status)


def _require_cursors(page: PageRequest) -> None:
    """A cursor need not exist any more, but it has to be one of this list."""
    problems = [
        FieldProblem(pointer=f"query:{name}", code="cursor_invalid", detail=f"{cursor!r} is no id of a job")
        for name, cursor in (("after", page.after), ("before", page.before))
        if cursor is not None and not is_id(cursor, prefix="job")
    ]
    if problems:
        detail = "; ".join(f"{problem.pointer}: {problem.detail}" for problem in problems)
        raise Unprocessable(detail, code="cursor_invalid", errors=problems)
