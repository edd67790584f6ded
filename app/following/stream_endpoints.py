"""`GET /v1/jobs/{job_id}/events/stream`: the history of a job, and what comes, as server-sent events."""

from typing import Annotated, Any, Final

from fastapi import Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import ProjectEngine
from app.db.session import read_only
from app.errors import Forbidden, NotFound, Unauthorized, Unavailable, Unprocessable, problem_responses
from app.following.dependencies import FeedOfProcess
from app.following.reading import Mark, metric_seq_at
from app.following.stream import Follower, JobStream, Position
from app.following.types import TypeFilter
from app.jobs import service
from app.routing import Router
from app.settings import Settings

router = Router(prefix="/v1/jobs", tags=["Following"], responses=problem_responses(Unauthorized, Forbidden))

_EXAMPLE: Final = (
    ": fusion\nretry: 3000\n\n"
    'event: step_started\ndata: {"object":"event","id":"evt-...","seq":2, ...}\nid: 2\n\n'
    'event: job.progress\ndata: {"object":"job.progress","progress":{"percent":12.5, ...}, ...}\n\n'
    'event: job.end\ndata: {"object":"job.end","job_id":"job-...","status":"succeeded","seq":19,'
    '"deleted":false}\nid: 19\n\n'
)
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events of the history with their number as `id`; `job.progress` (at most one a"
        " second) and `job.metrics` without one; comments while nothing happens; `job.end`, then the end.",
        # No schema: some tools apply it to the text and some to each event, and no single one fits both.
        "content": {"text/event-stream": {"example": _EXAMPLE}},
    },
    204: {"description": "The job has finished, and the client has every event: do not come back."},
}

Since = Annotated[int | None, Query(ge=0, le=2**31 - 1)]


@router.get(
    "/{job_id}/events/stream",
    # FastAPI takes a route of its EventSourceResponse for a generator, which could not answer 204.
    response_class=StreamingResponse,
    responses={**problem_responses(NotFound, Unprocessable, Unavailable), **_ANSWERS},
)
async def stream_job_events(
    request: Request,
    principal: CurrentPrincipal,
    engine: ProjectEngine,
    feed: FeedOfProcess,
    job_id: str,
    types: Annotated[
        list[str] | None,
        Query(description="Only these types, or beginnings of them (`step_*`); `job.end` always comes."),
    ] = None,
    after: Annotated[Since, Query(description="Number of the last event that the client has.")] = None,
    metrics_since: Annotated[
        Since, Query(description="`next_since` of the last curves, or `job.metrics`, that the client has.")
    ] = None,
    follow: Annotated[
        bool, Query(description="Whether to wait for what comes; else the stream ends.")
    ] = True,
    last_event_id: Annotated[
        int | None, Header(ge=0, le=2**31 - 1, description="As `after`, and goes before it.")
    ] = None,
    last_event_id_in_query: Annotated[
        Since, Query(alias="lastEventId", description="The same, from those who cannot send the header.")
    ] = None,
) -> Response:
    """Follow a job. Whoever comes back with the last `id` it saw has missed nothing, also of curves."""
    feed.require_room()
    wanted = TypeFilter.of(types or [])
    spellings = (last_event_id, last_event_id_in_query, after)
    seen = next((number for number in spellings if number is not None), None)

    def find() -> tuple[Mark, int]:
        with read_only(engine) as session:
            mark = Mark.of(service.get_job(session, project_id=principal.project_id, job_id=job_id))
            if metrics_since is not None:
                return mark, metrics_since
            return mark, metric_seq_at(session, job_id, event_seq=seen) if seen else mark.metric_seq

    mark, metric_seq = await run_in_threadpool(find)
    if seen is not None and seen > mark.event_seq:
        raise Unprocessable(f"the last event is {mark.event_seq}, there is no {seen}", code="cursor_ahead")
    if mark.is_finished and seen == mark.event_seq:
        return Response(status_code=204)
    settings: Settings = request.app.state.settings
    follower = Follower(
        feed=feed,
        engine=engine,
        mark=mark,
        key_id=principal.key_id,
        types=wanted,
        at=Position(event_seq=seen or 0, metric_seq=metric_seq),
        heartbeat_seconds=settings.stream_heartbeat_seconds,
        stays=follow,
    )
    return JobStream(follower)
