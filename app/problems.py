"""How an error is told to the caller: `application/problem+json`.

A problem has the members of RFC 9457, a `hint` that names the way out, and an `error` object as OpenAI's
API has it, which its clients unwrap. It never holds a traceback.
"""

from typing import Literal

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Scope

from app.errors import PROBLEM_MEDIA_TYPE, ApiError, FieldProblem
from app.logs import current_request_id

MAX_ERRORS_TOLD = 100
MAX_DETAIL_LENGTH = 4000
"""A request with ten thousand wrong fields is not answered with a megabyte."""

OpenAiErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "rate_limit_error",
    "server_error",
]

_OPENAI_TYPES: dict[int, OpenAiErrorType] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class OpenAiError(BaseModel):
    """The same problem in the shape that OpenAI's clients unwrap."""

    message: str
    type: OpenAiErrorType
    code: str
    param: str | None = None


class Problem(BaseModel):
    """A refused or failed request (RFC 9457)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    """For programs; stable."""
    hint: str | None = None
    """The way out, where one is known; null where none is."""
    request_id: str | None
    """Quote it to the operator: the service's logs carry it."""
    errors: list[FieldProblem] = Field(default_factory=list)
    error: OpenAiError


def problem_code_of(scope: Scope) -> str | None:
    """Code of the problem that a request was answered with; None where nobody foresaw one."""
    code: str | None = scope.get("state", {}).get("problem_code")
    return code


def problem_response(error: ApiError, *, instance: str) -> JSONResponse:
    """The answer to a request that ended in `error`."""
    problem = problem_of(error, instance=instance, request_id=current_request_id.get())
    return JSONResponse(
        problem.model_dump(mode="json"),
        status_code=error.status,
        headers=error.headers,
        media_type=PROBLEM_MEDIA_TYPE,
    )


def problem_of(error: ApiError, *, instance: str, request_id: str | None) -> Problem:
    """What a request that ended in `error` is told."""
    detail = error.detail
    if len(detail) > MAX_DETAIL_LENGTH:
        detail = f"{detail[:MAX_DETAIL_LENGTH]}..."
    return Problem(
        type=f"urn:fusion:problem:{error.code}",
        title=error.title,
        status=error.status,
        detail=detail,
        instance=instance,
        code=error.code,
        hint=error.hint,
        request_id=request_id,
        errors=error.errors[:MAX_ERRORS_TOLD],
        error=OpenAiError(
            message=detail,
            type=_openai_type(error.status),
            code=error.code,
            param=error.errors[0].pointer if error.errors else None,
        ),
    )


def _openai_type(status: int) -> OpenAiErrorType:
    if status >= 500:
        return "server_error"
    return _OPENAI_TYPES.get(status, "invalid_request_error")
