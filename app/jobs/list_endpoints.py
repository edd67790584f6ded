"""`/v1/jobs` as a list, and how many jobs there are."""

from typing import Any, Final

from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import ReadSession
from app.errors import Forbidden, Unauthorized, Unprocessable, problem_responses
from app.jobs import queries
from app.jobs.filters import FiltersOfRequest, count_by_status, page_of_jobs, require_job_cursors
from app.jobs.labels import METADATA_PARAMETER
from app.jobs.schemas import JobCounts, JobOut
from app.lists import ListOf, Paging, list_of
from app.routing import Router

router = Router(prefix="/v1/jobs", tags=["Jobs"], responses=problem_responses(Unauthorized, Forbidden))

_WITH_METADATA: Final[dict[str, Any]] = {"parameters": [METADATA_PARAMETER]}


@router.get("", responses=problem_responses(Unprocessable), openapi_extra=_WITH_METADATA)
def list_jobs(
    principal: CurrentPrincipal, session: ReadSession, filters: FiltersOfRequest, page: Paging
) -> ListOf[JobOut]:
    """Jobs of the project, the newest first.

    Several statuses, stages or strategies mean any of them; several tags or pairs of metadata mean all.
    """
    require_job_cursors(page)
    jobs, has_more = page_of_jobs(session, project_id=principal.project_id, filters=filters, page=page)
    return ListOf[JobOut](**list_of(queries.show_jobs(session, jobs), has_more=has_more))


@router.get("/counts", responses=problem_responses(Unprocessable), openapi_extra=_WITH_METADATA)
def count_jobs(principal: CurrentPrincipal, session: ReadSession, filters: FiltersOfRequest) -> JobCounts:
    """How many jobs there are by status, with the filters of the list."""
    by_status = count_by_status(session, project_id=principal.project_id, filters=filters)
    return JobCounts(total=sum(by_status.values()), by_status=by_status)
