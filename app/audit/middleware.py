"""Around every request: whoever asked for a change and changed nothing is written down after the answer."""

from anyio import CancelScope
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import DBAPIError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.audit.recording import AuditNote, outcome_of
from app.logs import get_logger
from app.problems import problem_code_of

log = get_logger(__name__)


class AuditMiddleware:
    """Looks after the note that authentication put into the request's state."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status: int | None = None

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            note: AuditNote | None = scope.get("state", {}).get("audit_note")
            if note is not None and not note.is_written:
                # A client that went away takes no event with it.
                with CancelScope(shield=True):
                    await run_in_threadpool(_write, note, status, problem_code_of(scope))


def _write(note: AuditNote, status: int | None, code: str | None) -> None:
    try:
        note.write_answer(status=status, code=code)
    except DBAPIError as error:
        facts = note.facts(outcome_of(status))
        log.error("audit_event_lost", status=status, code=code, facts=facts, error=str(error))
