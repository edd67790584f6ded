"""`POST /v1/jobs/estimate`: what a spec would take, without submitting it."""

from typing import Any, Final

from fastapi import Request

from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import ReadSession
from app.errors import (
    BadRequest,
    ContentTooLarge,
    Forbidden,
    Unauthorized,
    Unprocessable,
    UnsupportedMediaType,
    problem_responses,
)
from app.jobs.estimates.estimate import estimate_job
from app.jobs.schemas import EstimateOut
from app.jobs.spec_checks import check_spec
from app.jobs.spec_request import SPEC_REQUEST_BODY, SpecOfRequest
from app.routing import Router
from app.settings import Settings

router = Router(prefix="/v1/jobs", tags=["Jobs"], responses=problem_responses(Unauthorized, Forbidden))

_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = problem_responses(
    BadRequest, ContentTooLarge, UnsupportedMediaType, Unprocessable
)


@router.post("/estimate", responses=_PROBLEMS, openapi_extra=SPEC_REQUEST_BODY)
def estimate_of_spec(
    request: Request, principal: CurrentPrincipal, session: ReadSession, spec: SpecOfRequest
) -> EstimateOut:
    """Tokens, hours, memory and disk of a spec, each with its range and what stands behind it.

    Nothing is downloaded and nothing computed: figures come from what this project's jobs took, from uploads
    that were counted, from files on this machine, and from the names of models; else they are null.
    """
    settings: Settings = request.app.state.settings
    check_spec(session, spec, project_id=principal.project_id, allowed_roots=settings.allowed_roots)
    return EstimateOut.of(estimate_job(session, spec, project_id=principal.project_id))
