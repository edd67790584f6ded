"""Refusals: the same errors that routes raise, and the problems that are made of them."""

from typing import Any, Final

from app.api_examples.story import JOB_ID
from app.errors import (
    ApiError,
    BadRequest,
    Conflict,
    FieldProblem,
    Forbidden,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unprocessable,
)
from app.problems import problem_of

_UNKNOWN_FIELD: Final = FieldProblem(
    pointer="/tarining",
    code="extra_forbidden",
    detail="there is no field 'tarining'; did you mean 'training'?",
)
_TYPICAL: Final[tuple[tuple[str, ApiError], ...]] = (
    ("/v1/jobs", BadRequest("the body is not valid JSON: Expecting value", code="json_invalid")),
    ("/v1/jobs", Unauthorized("the API key is unknown", code="invalid_api_key")),
    ("/v1/jobs", Forbidden("this needs the scope 'jobs:write'; the API key has read", code="scope_missing")),
    (f"/v1/jobs/{JOB_ID}", NotFound(f"there is no job {JOB_ID!r}", code="job_not_found")),
    (
        f"/v1/jobs/{JOB_ID}/pause",
        Conflict("the job is succeeded, and a finished job does not change", code="job_finished"),
    ),
    (
        "/v1/jobs",
        Unprocessable(
            f"{_UNKNOWN_FIELD.pointer}: {_UNKNOWN_FIELD.detail}", code="spec_invalid", errors=[_UNKNOWN_FIELD]
        ),
    ),
    (
        "/v1/jobs",
        TooManyRequests(
            "more than 6000 requests of one key within a minute",
            hint="wait 31 seconds; an operator can raise FUSION_RATE_LIMITS",
        ),
    ),
)


def refusal_example(kind: type[ApiError]) -> dict[str, Any]:
    """What a refusal of that kind looks like."""
    plain = ("/v1/jobs", kind(kind.title.lower()))
    instance, error = next((typical for typical in _TYPICAL if type(typical[1]) is kind), plain)
    return problem_of(error, instance=instance, request_id="req-5f0c1e5b0707df93d1dd2e04").model_dump(
        mode="json"
    )
