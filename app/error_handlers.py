"""Which problem each error of a request is answered with."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import InternalError as DatabaseInternalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from app.allowed_methods import allowed_methods
from app.errors import (
    API_ERRORS,
    ApiError,
    BadRequest,
    FieldProblem,
    InternalServerError,
    MethodNotAllowed,
    Unavailable,
    Unprocessable,
)
from app.logs import get_logger
from app.problems import problem_response
from fusion.errors import FusionError
from fusion.plain_data import json_pointer

_STATEMENT_ENDED = "57014"
_ENDED_IDLE = "25P03"
"""PostgreSQL's codes for what took longer than it may."""

_INTERRUPTED = sqlite3.SQLITE_INTERRUPT
"""SQLite's, for the same."""

_CLASS_OF_STATUS = {error.status: error for error in API_ERRORS}

log = get_logger(__name__)


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of a request with a problem.

    The handlers are coroutines: others would stand in line for a thread when the work is done.
    """
    app.add_exception_handler(ApiError, _answer_api_error)
    app.add_exception_handler(FusionError, _answer_fusion_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(OperationalError, _answer_database_outage)
    app.add_exception_handler(DatabaseInternalError, _answer_database_outage)
    app.add_exception_handler(PoolTimeoutError, _answer_overload)
    app.add_exception_handler(DataError, _answer_unstorable)


async def _answer_api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return _answer(request, error)


async def _answer_fusion_error(request: Request, error: Exception) -> JSONResponse:
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


async def _answer_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    items = error.errors()
    if any(item["type"] == "json_invalid" for item in items):
        reason = items[0].get("ctx", {}).get("error", "not JSON")
        return _answer(request, BadRequest(f"the body is not valid JSON: {reason}", code="json_invalid"))
    fields = [
        FieldProblem(
            pointer=_request_pointer(item, error.body),
            code=item["type"],
            # Of ours, which say what is expected.
            detail=item["msg"].removeprefix("Value error, "),
        )
        for item in items
    ]
    detail = "; ".join(f"{field.pointer}: {field.detail}" for field in fields)
    return _answer(request, Unprocessable(detail, errors=fields))


async def _answer_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    error_class = _CLASS_OF_STATUS.get(error.status_code)
    if error_class is None:
        error_class = InternalServerError if error.status_code >= 500 else BadRequest
    headers = dict(error.headers or {})
    if error_class is MethodNotAllowed:
        headers["Allow"] = ", ".join(allowed_methods(request))
    return _answer(request, error_class(str(error.detail), headers=headers))


async def _answer_database_outage(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DBAPIError)
    state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "sqlite_errorcode", None)
    if isinstance(error, DatabaseInternalError) and state != _ENDED_IDLE:
        raise error
    log.error("database_unreachable", error=str(error))
    if state in (_STATEMENT_ENDED, _ENDED_IDLE, _INTERRUPTED):
        slow = "the database took too long for this request, which was ended"
        return _answer(request, Unavailable(slow, code="database_too_slow"))
    outage = Unavailable("the database does not answer; try again", code="database_unavailable")
    return _answer(request, outage)


async def _answer_overload(request: Request, error: Exception) -> JSONResponse:
    """Every connection to the database was in use, for as long as a request may wait for one."""
    log.error("no_free_connection", error=str(error))
    overload = Unavailable("the service has more requests than it can answer; try again", code="overloaded")
    return _answer(request, overload)


async def _answer_unstorable(request: Request, error: Exception) -> JSONResponse:
    """PostgreSQL's text holds no NUL, and its numbers end somewhere."""
    log.info("value_unstorable", error=str(error))
    refusal = Unprocessable("a value holds what no text of ours can, such as NUL", code="text_not_allowed")
    return _answer(request, refusal)


def _answer(request: Request, error: ApiError) -> JSONResponse:
    request.state.problem_code = error.code
    return problem_response(error, instance=request.url.path)


def _request_pointer(problem: Mapping[str, Any], body: Any) -> str:
    origin, *path = problem["loc"]
    if origin != "body":
        return f"{origin}:{'.'.join(str(part) for part in path)}"
    # Which of several shapes a body has is told by one of its fields.
    by = problem.get("ctx", {}).get("discriminator")
    return json_pointer([*_in_body(path, body), *([] if by is None else [by.strip("'")])])


def _in_body(path: Sequence[int | str], body: Any) -> Iterator[int | str]:
    """A location without the names of shapes, which pydantic puts before the fields that they have."""
    for index, part in enumerate(path):
        is_last = index == len(path) - 1
        if not is_last and isinstance(body, dict) and part not in body:
            continue
        yield part
        if isinstance(body, dict):
            body = body.get(part)
        elif isinstance(body, list) and isinstance(part, int):
            body = body[part]
