"""`GET /v1/jobs/{job_id}`: a job as it is, or as soon as something happens to it."""

import time
from typing import Annotated, Any, Final

from fastapi import Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import ProjectEngine
from app.db.session import read_only
from app.errors import Forbidden, NotFound, Unauthorized, Unavailable, Unprocessable, problem_responses
from app.following.dependencies import FeedOfProcess
from app.following.feed import Feed
from app.following.reading import Mark
from app.jobs import queries, service
from app.jobs.schemas import JobInFull
from app.preconditions import ETAG_HEADER, entity_tag
from app.routing import Router

router = Router(prefix="/v1/jobs", tags=["Jobs"], responses=problem_responses(Unauthorized, Forbidden))

MAX_WAIT_SECONDS: Final = 60
_LOOK_SECONDS: Final = 5.0
"""How long it can take until a caller who hung up is noticed."""
_SHOWN: Final[dict[int | str, dict[str, Any]]] = {200: {"headers": ETAG_HEADER}}


@router.get("/{job_id}", responses={**problem_responses(NotFound, Unprocessable, Unavailable), **_SHOWN})
async def get_job(
    request: Request,
    response: Response,
    principal: CurrentPrincipal,
    engine: ProjectEngine,
    feed: FeedOfProcess,
    job_id: str,
    wait: Annotated[
        float, Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for another version.")
    ] = 0,
    since_version: Annotated[
        int | None, Query(ge=0, description="`version` that the caller has; the present one when absent.")
    ] = None,
) -> JobInFull:
    """One job with its progress. With `wait` the answer comes once the job has a later version than
    `since_version`, has finished, or the time is over.
    """

    def read() -> tuple[JobInFull, Mark]:
        with read_only(engine) as session:
            job = service.get_job(session, project_id=principal.project_id, job_id=job_id)
            return queries.show_job_in_full(session, job), Mark.of(job)

    shown, mark = await run_in_threadpool(read)
    seen = shown.version if since_version is None else since_version
    if wait and shown.version <= seen and not mark.is_finished:
        feed.require_room()
        await _wait(feed, mark, request, key_id=principal.key_id, seen=seen, seconds=wait)
        shown, _ = await run_in_threadpool(read)
    response.headers["ETag"] = entity_tag(shown.version)
    return shown


async def _wait(feed: Feed, mark: Mark, request: Request, *, key_id: str, seen: int, seconds: float) -> None:
    """Until the job is later than version `seen`. Holds neither a thread nor a connection meanwhile."""
    ends_at = time.monotonic() + seconds
    with feed.follow(mark, key_id=key_id, wants_points=False) as channel:
        while channel.event_seq <= seen and channel.is_alive and feed.is_welcome(key_id):
            left = ends_at - time.monotonic()
            if left <= 0 or await request.is_disconnected():
                return
            await channel.wait(channel.version, min(left, _LOOK_SECONDS))
