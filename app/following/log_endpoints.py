"""`GET /v1/jobs/{job_id}/logs`: what the processes of a job's attempts wrote."""

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Query
from fastapi.responses import StreamingResponse

from app.accounts.dependencies import CurrentPrincipal
from app.db.base import unix_seconds
from app.db.dependencies import ProjectEngine
from app.db.models import Job
from app.db.session import read_only
from app.errors import Forbidden, Gone, NotFound, Unauthorized, Unprocessable, problem_responses
from app.following.log_reading import LogCut, LogLine, read_lines
from app.jobs import queries, service
from app.jobs.log_text import Level
from app.routing import Router

router = Router(prefix="/v1/jobs", tags=["Following"], responses=problem_responses(Unauthorized, Forbidden))

MAX_TAIL: Final = 10_000
_PIECE_LETTERS: Final = 64 << 10
_MEDIA_TYPES: Final = {"text": "text/plain; charset=utf-8", "ndjson": "application/x-ndjson"}
_EXAMPLE: Final = "==> train.fused, attempt 1 <==\nUserWarning: the tokenizer has no pad token\n"
_SHOWN: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {
            "text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE},
            "application/x-ndjson": {"schema": {"type": "string"}},
        }
    }
}


async def _cut(
    attempt: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="All of them when absent.")] = None,
    tail: Annotated[int | None, Query(ge=1, le=MAX_TAIL, description="Only so many lines, the last.")] = None,
    since: Annotated[
        int, Query(ge=0, le=2**31 - 1, description="`seq` of the last line that the client has.")
    ] = 0,
    level: Annotated[Level, Query(description="Only lines that matter as much.")] = Level.DEBUG,
) -> LogCut:
    return LogCut(job_id="", steps={}, attempt=attempt, tail=tail, since=since, level=level)


@router.get(
    "/{job_id}/logs",
    response_class=StreamingResponse,
    responses={**problem_responses(NotFound, Gone, Unprocessable), **_SHOWN},
)
def get_job_logs(
    principal: CurrentPrincipal,
    engine: ProjectEngine,
    job_id: str,
    asked: Annotated[LogCut, Depends(_cut)],
    step: Annotated[str | None, Query(description="Name or id of a step; all steps when absent.")] = None,
    format: Annotated[Literal["text", "ndjson"], Query()] = "text",  # noqa: A002 - its name in the API
) -> StreamingResponse:
    """Standard output and error of a job's attempts, a second after they were written. They are kept for 90
    days after the job's end, or as long as the operator chose; then the answer is 410.
    """
    with read_only(engine) as session:
        job = service.get_job(session, project_id=principal.project_id, job_id=job_id)
        steps = queries.step_names(session, job, step)
    cut = replace(asked, job_id=job.id, steps=steps, removed_seq=job.removed_log_seq)
    lines = read_lines(engine, cut)
    if cut.misses_some:
        lines = _after_removed(lines, job, cut)
    content = _as_text(lines) if format == "text" else _as_json_lines(lines)
    return StreamingResponse(in_pieces(content), media_type=_MEDIA_TYPES[format])


def in_pieces(texts: Iterable[str]) -> Iterator[str]:
    """The same text in larger pieces: each is a turn of a thread and a write to the socket."""
    waiting: list[str] = []
    size = 0
    for text in texts:
        waiting.append(text)
        size += len(text)
        if size >= _PIECE_LETTERS:
            yield "".join(waiting)
            waiting, size = [], 0
    yield "".join(waiting)


def _after_removed(lines: Iterator[LogLine], job: Job, cut: LogCut) -> Iterator[LogLine]:
    """What is kept of a log whose beginning is not.

    Raises:
        Gone: nothing is.
    """
    first = next(lines, None)
    if first is None:
        raise Gone(
            f"the logs of {job.id} are no longer kept: too long has passed since it ended",
            code="logs_not_kept",
        )
    told = "... what was written before is no longer kept ..."
    missing = replace(first, seq=cut.removed_seq, level=Level.INFO, text=told)
    return itertools.chain([] if cut.tail else [missing], [first], lines)


def _as_text(lines: Iterator[LogLine]) -> Iterator[str]:
    """As `tail` shows several files."""
    shown = None
    for line in lines:
        if shown != (line.step_name, line.attempt):
            yield ("" if shown is None else "\n") + f"==> {line.step_name}, attempt {line.attempt} <==\n"
            shown = (line.step_name, line.attempt)
        yield line.text + "\n"


def _as_json_lines(lines: Iterator[LogLine]) -> Iterator[str]:
    for line in lines:
        told = {
            "seq": line.seq,
            "step_name": line.step_name,
            "attempt": line.attempt,
            "created_at": unix_seconds(line.created_at),
            "level": line.level,
            "text": line.text,
        }
        yield json.dumps(told, ensure_ascii=False) + "\n"
