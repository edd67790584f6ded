"""Around every request: its id, its line in the log, and a problem for what nobody foresaw."""

import re
import secrets
import time
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import PROBLEM_MEDIA_TYPE, ContentTooLarge, InternalServerError
from app.logs import current_request_id, get_logger
from app.problems import problem_response

REQUEST_ID_HEADER: Final = "X-Request-Id"
_ACCEPTED: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
QUIET_PATHS: Final = frozenset({"/livez", "/readyz"})
"""Asked again and again by whoever supervises the process: neither logged nor refused in an overload.
`/livez` waits for nothing; `/readyz` comes late then, which tells as much."""

_MISTAKE: Final = InternalServerError(
    "the service made a mistake; its log has the details under this request id"
)
_TOO_LARGE: Final = ContentTooLarge("the body is larger than this endpoint accepts")

log = get_logger(__name__)


class RequestContextMiddleware:
    """Gives each request an id (the caller's, when harmless), sends it back and binds it to the logs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = given if _ACCEPTED.fullmatch(given) else f"req-{secrets.token_hex(12)}"
        token = current_request_id.set(request_id)
        try:
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                await self._answer(scope, receive, send, request_id=request_id)
        finally:
            current_request_id.reset(token)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, *, request_id: str) -> None:
        started_at = time.perf_counter()
        answer = _Answer(send, request_id=request_id, scope=scope)
        try:
            await self._app(scope, receive, answer)
        except Exception:
            log.exception("request_failed", method=scope["method"], path=scope["path"])
            if answer.status is not None:
                # Half an answer is out: only a broken connection tells the client so.
                raise
            await problem_response(_MISTAKE, instance=scope["path"])(scope, receive, answer)
        if answer.is_refused_as_too_large:
            await problem_response(_TOO_LARGE, instance=scope["path"])(scope, receive, answer)
        if scope["path"] not in QUIET_PATHS:
            log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=answer.status,
                seconds=round(time.perf_counter() - started_at, 4),
            )


class _Answer:
    """Passes an answer on with the request's id and the headers that its way here brought, and remembers its
    status."""

    def __init__(self, send: Send, *, request_id: str, scope: Scope) -> None:
        self._send = send
        self._scope = scope
        self._request_id = request_id
        self.status: int | None = None
        self.is_refused_as_too_large = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            # The body limiter answers in plain text and lets nobody else answer, so its words are swallowed.
            is_problem = headers.get("content-type") == PROBLEM_MEDIA_TYPE
            self.is_refused_as_too_large = message["status"] == ContentTooLarge.status and not is_problem
            headers[REQUEST_ID_HEADER] = self._request_id
            for name, value in self._scope.get("state", {}).get("answer_headers", {}).items():
                headers[name] = value
        if self.is_refused_as_too_large:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)
