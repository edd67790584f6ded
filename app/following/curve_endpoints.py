"""`GET /v1/jobs/{job_id}/metrics`: training curves."""

from dataclasses import replace
from typing import Annotated, Final, Literal

from fastapi import Depends, Query, Response
from fastapi.responses import StreamingResponse

from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import ProjectEngine
from app.db.models import Job
from app.db.session import read_only
from app.errors import Forbidden, Gone, NotFound, Unauthorized, Unprocessable, problem_responses
from app.following.curve_export import MEDIA_TYPES, export_points
from app.following.curve_schemas import CurvesOut, SeriesOut
from app.following.curves import Axis, Cut, read_series
from app.jobs import queries, service
from app.routing import Router

router = Router(prefix="/v1/jobs", tags=["Following"], responses=problem_responses(Unauthorized, Forbidden))

MAX_POINTS: Final = 10_000
_MAX_INTEGER: Final = 2**31 - 1


async def _cut(
    keys: Annotated[
        list[str] | None,
        Query(description="Names `STEP/VALUE` of curves, with `*` for any letters; several with commas."),
    ] = None,
    step: Annotated[str | None, Query(description="Name or id of a step; all steps when absent.")] = None,
    since: Annotated[
        int, Query(ge=0, le=_MAX_INTEGER, description="`next_since` of an answer: only what came after it.")
    ] = 0,
    since_step: Annotated[int, Query(ge=-1, le=_MAX_INTEGER, description="Only later optimiser steps.")] = -1,
) -> Cut:
    words = [word for value in keys or [] for word in value.split(",") if word]
    return Cut(keys=words[:100], step=step, since=since, since_step=since_step)


@router.get(
    "/{job_id}/metrics",
    response_model=CurvesOut,
    responses={
        **problem_responses(NotFound, Gone, Unprocessable),
        200: {"content": {media_type: {} for media_type in MEDIA_TYPES.values()}},
    },
)
def get_job_metrics(
    principal: CurrentPrincipal,
    engine: ProjectEngine,
    job_id: str,
    cut: Annotated[Cut, Depends(_cut)],
    x: Annotated[Axis, Query(description="Optimiser steps, Unix seconds, or trained tokens.")] = "step",
    max_points: Annotated[int, Query(ge=1, le=MAX_POINTS, description="Of each curve.")] = 1000,
    format: Annotated[  # noqa: A002 - its name in the API
        Literal["json", "csv", "ndjson"], Query(description="`csv` and `ndjson` hold every point.")
    ] = "json",
) -> CurvesOut | Response:
    """Training curves of a job as columns, each with at most `max_points` points. They are kept for a year
    after the job's end, or as long as the operator chose; then the answer is 410.
    """
    with read_only(engine) as session:
        job = service.get_job(session, project_id=principal.project_id, job_id=job_id)
        steps = queries.step_names(session, job, cut.step)
        cut = _kept(cut, job)
        if format == "json":
            shown: dict[str, SeriesOut] = {}
            for step_id, step_name in steps.items():
                found, boundaries = read_series(
                    session, step_id=step_id, step_name=step_name, cut=cut, axis=x, max_points=max_points
                )
                shown |= {key: SeriesOut.of(series, boundaries) for key, series in found.items()}
            return CurvesOut(
                job_id=job.id,
                x=x,
                series=shown,
                removed_until=job.removed_metric_seq,
                next_since=job.last_metric_seq,
            )
    content = export_points(engine, steps, cut=cut, export_format=format)
    return StreamingResponse(content, media_type=MEDIA_TYPES[format])


def _kept(cut: Cut, job: Job) -> Cut:
    """What of the points asked for is kept.

    Raises:
        Gone: some were asked for that are not, and there are no others.
    """
    if cut.since < job.removed_metric_seq == job.last_metric_seq:
        raise Gone(
            f"the curves of {job.id} are no longer kept: too long has passed since it ended",
            code="metrics_not_kept",
        )
    return replace(cut, since=max(cut.since, job.removed_metric_seq))
