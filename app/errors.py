"""The errors of the API, as one small tree; `app.problems` says how each is told to the caller.

ApiError
├── BadRequest 400          ├── PreconditionFailed 412
├── Unauthorized 401        ├── ContentTooLarge 413
├── Forbidden 403           ├── UnsupportedMediaType 415
├── NotFound 404            ├── RangeNotSatisfiable 416
├── MethodNotAllowed 405    ├── Unprocessable 422
├── Conflict 409            ├── TooManyRequests 429, of which QuotaExceeded is one
├── Gone 410                └── Unavailable 503
└── InternalServerError 500
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel

from app.hints import HINT_OF_CODE

PROBLEM_MEDIA_TYPE = "application/problem+json"


class FieldProblem(BaseModel):
    """What is wrong with one field of the request."""

    pointer: str
    """JSON pointer (RFC 6901) into the body, or `header:`, `query:` or `path:` and a name."""
    code: str
    detail: str


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


class Gone(ApiError):
    """It was there, and is no longer kept."""

    status, title, default_code = 410, "Gone", "gone"


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
    Gone,
    PreconditionFailed,
    ContentTooLarge,
    UnsupportedMediaType,
    RangeNotSatisfiable,
    Unprocessable,
    TooManyRequests,
    InternalServerError,
    Unavailable,
)


def problem_responses(*errors: type[ApiError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` argument of a route that can answer with these errors."""
    return {
        error.status: {
            "description": (error.__doc__ or error.title).strip(),
            "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for error in errors
    }
