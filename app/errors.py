"""The errors of the API, as one small tree, and how each becomes `application/problem+json`.

    ApiError
    ├── BadRequest 400          ├── Conflict 409
    ├── Unauthorized 401        ├── ContentTooLarge 413
    ├── Forbidden 403           ├── UnsupportedMediaType 415
    ├── NotFound 404            ├── RangeNotSatisfiable 416
    ├── MethodNotAllowed 405    ├── Unprocessable 422
    ├── PreconditionFailed 412  ├── TooManyRequests 429, of which QuotaExceeded is one
    └── InternalServerError 500 └── Unavailable 503

A problem has the members of RFC 9457, a `hint` that names the way out, and an `error` object as OpenAI's
API has it, which its clients unwrap. It never holds a traceback.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import InternalError as DatabaseInternalError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from app.allowed_methods import allowed_methods
from app.hints import HINT_OF_CODE
from app.logs import current_request_id, get_logger
from fusion.errors import FusionError
from fusion.plain_data import json_pointer

PROBLEM_MEDIA_TYPE = "application/problem+json"

_STATEMENT_ENDED = "57014"
_ENDED_IDLE = "25P03"
"""PostgreSQL's codes for what took longer than it may."""
MAX_ERRORS_TOLD = 100
MAX_DETAIL_LENGTH = 4000
"""A request with ten thousand wrong fields is not answered with a megabyte."""

log = get_logger(__name__)

OpenAiErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "rate_limit_error",
    "server_error",
]


class FieldProblem(BaseModel):
    """What is wrong with one field of the request."""

    pointer: str
    """JSON pointer (RFC 6901) into the body, or `header:`, `query:` or `path:` and a name."""
    code: str
    detail: str


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


class ApiError(Exception):
    """A request that is answered with a problem. Subclasses fix the status."""

    status: ClassVar[int]
    title: ClassVar[str]
    default_code: ClassVar[str]
    default_headers: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default_code
        self.hint = hint or HINT_OF_CODE.get(self.code)
        self.errors = list(errors)
        self.headers = {**self.default_headers, **(headers or {})}


class BadRequest(ApiError):
    """The request cannot be read."""

    status, title, default_code = 400, "Bad request", "bad_request"


class Unauthorized(ApiError):
    """No valid API key was sent."""

    status, title, default_code = 401, "Unauthorized", "invalid_api_key"
    default_headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": "Bearer"}


class Forbidden(ApiError):
    """The API key may not do this."""

    status, title, default_code = 403, "Forbidden", "forbidden"


class NotFound(ApiError):
    """There is no such thing in this project."""

    status, title, default_code = 404, "Not found", "not_found"


class MethodNotAllowed(ApiError):
    """The resource does not know this method."""

    status, title, default_code = 405, "Method not allowed", "method_not_allowed"


class Conflict(ApiError):
    """The resource is in a state that does not allow this; repeating the request does not help."""

    status, title, default_code = 409, "Conflict", "conflict"
    default_headers: ClassVar[Mapping[str, str]] = {"x-should-retry": "false"}


class PreconditionFailed(ApiError):
    """The resource has changed since the caller saw it."""

    status, title, default_code = 412, "Precondition failed", "precondition_failed"


class ContentTooLarge(ApiError):
    """The body is larger than the service accepts."""

    status, title, default_code = 413, "Content too large", "content_too_large"


class UnsupportedMediaType(ApiError):
    """The body is in a format that this endpoint does not read."""

    status, title, default_code = 415, "Unsupported media type", "unsupported_media_type"


class RangeNotSatisfiable(ApiError):
    """The requested range lies outside the content."""

    status, title, default_code = 416, "Range not satisfiable", "range_not_satisfiable"


class Unprocessable(ApiError):
    """The request is readable, and a field of it is wrong."""

    status, title, default_code = 422, "Unprocessable content", "invalid_request"


class TooManyRequests(ApiError):
    """More than this key or project may ask for; `Retry-After` says when to come again, if waiting helps."""

    status, title, default_code = 429, "Too many requests", "rate_limit_exceeded"


class QuotaExceeded(TooManyRequests):
    """A limit of the project stands in the way (`quota_exceeded`); the detail names it and what is used."""

    title, default_code = "Quota exceeded", "quota_exceeded"
    # Waiting a moment does not help, and clients would repeat a whole upload.
    default_headers: ClassVar[Mapping[str, str]] = {"x-should-retry": "false"}


class InternalServerError(ApiError):
    """A mistake of the service's."""

    status, title, default_code = 500, "Internal server error", "internal"


class Unavailable(ApiError):
    """The service cannot do this now; another try may succeed."""

    status, title, default_code = 503, "Service unavailable", "unavailable"
    default_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "5"}


API_ERRORS: tuple[type[ApiError], ...] = (
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Conflict,
    PreconditionFailed,
    ContentTooLarge,
    UnsupportedMediaType,
    RangeNotSatisfiable,
    Unprocessable,
    TooManyRequests,
    InternalServerError,
    Unavailable,
)
_CLASS_OF_STATUS = {error.status: error for error in API_ERRORS}

_OPENAI_TYPES: dict[int, OpenAiErrorType] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def problem_responses(*errors: type[ApiError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` argument of a route that can answer with these errors."""
    return {
        error.status: {
            "description": (error.__doc__ or error.title).strip(),
            "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for error in errors
    }


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


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of a request with a problem."""
    app.add_exception_handler(ApiError, _answer_api_error)
    app.add_exception_handler(FusionError, _answer_fusion_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(OperationalError, _answer_database_outage)
    app.add_exception_handler(DatabaseInternalError, _answer_database_outage)
    app.add_exception_handler(DataError, _answer_unstorable)


def _answer_api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return _answer(request, error)


def _answer_fusion_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FusionError)
    if error.category != "user":
        raise error
    fields = (
        []
        if error.pointer is None
        else [FieldProblem(pointer=error.pointer, code=error.code, detail=error.message)]
    )
    refusal = Unprocessable(error.message, code=error.code, hint=error.hint, errors=fields)
    return _answer(request, refusal)


def _answer_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    items = error.errors()
    if any(item["type"] == "json_invalid" for item in items):
        reason = items[0].get("ctx", {}).get("error", "not JSON")
        return _answer(request, BadRequest(f"the body is not valid JSON: {reason}", code="json_invalid"))
    fields = [
        FieldProblem(pointer=_request_pointer(item["loc"]), code=item["type"], detail=item["msg"])
        for item in items
    ]
    detail = "; ".join(f"{field.pointer}: {field.detail}" for field in fields)
    return _answer(request, Unprocessable(detail, errors=fields))


def _answer_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    error_class = _CLASS_OF_STATUS.get(error.status_code)
    if error_class is None:
        error_class = InternalServerError if error.status_code >= 500 else BadRequest
    headers = dict(error.headers or {})
    if error_class is MethodNotAllowed:
        headers["Allow"] = ", ".join(allowed_methods(request))
    return _answer(request, error_class(str(error.detail), headers=headers))


def _answer_database_outage(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DBAPIError)
    state = getattr(error.orig, "sqlstate", None)
    if isinstance(error, DatabaseInternalError) and state != _ENDED_IDLE:
        raise error
    log.error("database_unreachable", error=str(error))
    if state in (_STATEMENT_ENDED, _ENDED_IDLE):
        slow = "the database took too long for this request, which was ended"
        return _answer(request, Unavailable(slow, code="database_too_slow"))
    outage = Unavailable("the database does not answer; try again", code="database_unavailable")
    return _answer(request, outage)


def _answer_unstorable(request: Request, error: Exception) -> JSONResponse:
    """PostgreSQL's text holds no NUL, and its numbers end somewhere."""
    log.info("value_unstorable", error=str(error))
    refusal = Unprocessable("a value holds what no text of ours can, such as NUL", code="text_not_allowed")
    return _answer(request, refusal)


def _answer(request: Request, error: ApiError) -> JSONResponse:
    request.state.problem_code = error.code
    return problem_response(error, instance=request.url.path)


def _request_pointer(location: Sequence[int | str]) -> str:
    origin, *path = location
    if origin == "body":
        return json_pointer(path)
    return f"{origin}:{'.'.join(str(part) for part in path)}"


def _openai_type(status: int) -> OpenAiErrorType:
    if status >= 500:
        return "server_error"
    return _OPENAI_TYPES.get(status, "invalid_request_error")
