"""What can go wrong between a client and the service, as one small tree.

ClientError
├── ApiError                 the service answered with a problem (RFC 9457)
│   ├── AuthenticationError  401, 403: no key, a wrong key, or one without the right
│   ├── NotFoundError        404: no such thing in this project
│   ├── ConflictError        409: not possible in the present state
│   ├── GoneError            410: it was there, and is no longer kept
│   ├── InvalidRequestError  400, 413, 415, 422: the request itself is wrong
│   ├── RateLimitedError     429
│   └── ServerError          5xx
├── UnreachableError         no answer, after retries
├── StreamRefusedError       an answer that is no stream of events
├── PromotionFailedError     a checkpoint of which no model could be made
└── DownloadError            bytes that are not what the service promised, or no room for them
"""

from dataclasses import dataclass
from typing import Any

import httpx2


class ClientError(Exception):
    """Base of everything this client raises on purpose."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UnreachableError(ClientError):
    """The service did not answer, also not when asked again."""


class StreamRefusedError(ClientError):
    """What should be a stream of events is none: the service is older, or a proxy is in between."""


class PromotionFailedError(ClientError):
    """No model could be made of a checkpoint: its bytes are damaged, or gone."""


class PublicationFailedError(ClientError):
    """A model could not be sent to where it should be published, or its publication was cancelled."""


class DownloadError(ClientError):
    """What arrived is not what the service promised, or does not fit on the disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldProblem:
    """One wrong field of a request. `pointer` is a JSON pointer into its body."""

    pointer: str | None
    code: str
    detail: str


class ApiError(ClientError):
    """The service refused. `code` is for programs, `message` for people, `errors` names the fields."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        hint: str | None = None,
        errors: tuple[FieldProblem, ...] = (),
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.errors = errors
        self.request_id = request_id


class AuthenticationError(ApiError):
    """No API key, an unknown one, or one that may not do this."""


class NotFoundError(ApiError):
    """Nothing of that id is visible to this key."""


class ConflictError(ApiError):
    """Not possible in the present state of the thing."""


class GoneError(ApiError):
    """It was there, and is no longer kept."""


class InvalidRequestError(ApiError):
    """The request is wrong; the same request will be wrong again."""


class RateLimitedError(ApiError):
    """Too many requests."""


class ServerError(ApiError):
    """The service failed on its side."""


_CLASS_OF_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: InvalidRequestError,
    429: RateLimitedError,
}


def error_from_response(response: httpx2.Response) -> ApiError:
    """Read a problem document; an answer without one (a proxy's page) still gives an error that says so."""
    problem = _problem_of(response)
    error_class = _CLASS_OF_STATUS.get(
        response.status_code, ServerError if response.status_code >= 500 else ApiError
    )
    return error_class(
        str(
            problem.get("detail")
            or problem.get("title")
            or f"HTTP {response.status_code} without explanation"
        ),
        status=response.status_code,
        code=str(problem.get("code") or f"http_{response.status_code}"),
        hint=problem.get("hint"),
        errors=tuple(_field_problem(item) for item in problem.get("errors") or ()),
        request_id=problem.get("request_id") or response.headers.get("x-request-id"),
    )


def _problem_of(response: httpx2.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _field_problem(item: dict[str, Any]) -> FieldProblem:
    return FieldProblem(
        pointer=item.get("pointer"), code=str(item.get("code") or ""), detail=str(item.get("detail") or "")
    )
