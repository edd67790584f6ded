"""Reading what is needed to say when jobs will be done and why they wait: a few queries for however many."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from app.db.base import db_time
from app.db.models import Attempt, Job, Step, StepNeed
from app.jobs.experience import (
    Measured,
    earlier_measurements,
    expected_seconds,
    figures_of_prepare,
    measured_steps,
    seconds_of_steps,
    tasks_of,
)
from app.jobs.lifecycle import AttemptOutcome, JobStatus
from app.jobs.outlook import seconds_left
from app.jobs.waiting import Queues, Waiting


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What is ahead of a job. Empty where nothing is, or nobody can tell.

    seconds_left, finish_at: until the job is done, while it is under way. expected: seconds in all of its
    steps, by name, by what such steps took.
    """

    seconds_left: float | None = None
    finish_at: datetime | None = None
    waiting: Waiting | None = None
    expected: Mapping[str, float] = field(default_factory=dict)


NOTHING_AHEAD = Forecast()


def forecasts(
    session: Session, jobs: Sequence[Job], steps: Mapping[str, Sequence[Step]]
) -> dict[str, Forecast]:
    """The forecast of every job that is not over, by its id. `steps`: of each job, in the order of its plan.

    The jobs belong to one project. A job that its user has paused or is cancelling has none.
    """
    open_jobs = [job for job in jobs if job.status in (JobStatus.QUEUED, JobStatus.RUNNING)]
    if not open_jobs:
        return {}
    now = session.scalars(select(db_time())).one()
    queues = Queues(
        session,
        project_id=open_jobs[0].project_id,
        now=now,
        steps=(step for job in open_jobs for step in steps[job.id]),
    )
    running = [job for job in open_jobs if job.status == JobStatus.RUNNING]
    found = _of_running(session, running, steps, now=now) if running else {}
    return {
        job.id: Forecast(
            waiting=queues.waiting(steps[job.id]),
            seconds_left=found[job.id].seconds_left if job.id in found else None,
            finish_at=found[job.id].finish_at if job.id in found else None,
            expected=found[job.id].expected if job.id in found else {},
        )
        for job in open_jobs
    }


def expected_of_steps(
    spec: Mapping[str, object], steps: Sequence[Step], measured: Sequence[Measured], *, job_id: str
) -> dict[str, float]:
    """Seconds in all of every step for which there is anything to go by, by its name."""
    if not spec:
        return {}
    tasks = tasks_of(spec, steps, job_id=job_id, prepared=figures_of_prepare(steps))
    found = {name: expected_seconds(task, measured) for name, task in tasks.items()}
    return {name: one.seconds for name, one in found.items() if one is not None}


def _of_running(
    session: Session, jobs: Sequence[Job], steps: Mapping[str, Sequence[Step]], *, now: datetime
) -> dict[str, Forecast]:
    ids = [job.id for job in jobs]
    earlier = earlier_measurements(session, project_id=jobs[0].project_id)
    seconds, needs, begun = seconds_of_steps(session, ids), _needs(session, ids), _begun(session, ids)
    found = {}
    for job in jobs:
        own = measured_steps(job.spec, steps[job.id], seconds)
        expected = expected_of_steps(job.spec, steps[job.id], [*own, *earlier], job_id=job.id)
        left = seconds_left(
            steps[job.id], needs=needs[job.id], expected=expected, attempt_started_at=begun, now=now
        )
        finish_at = None if left is None else now + timedelta(seconds=left)
        found[job.id] = Forecast(seconds_left=left, finish_at=finish_at, expected=expected)
    return found


def _needs(session: Session, job_ids: Collection[str]) -> dict[str, dict[str, list[str]]]:
    """Names of the steps that each step waits for, by job and name."""
    needed = aliased(Step)
    query = (
        select(Step.job_id, Step.name, needed.name.label("needed"))
        .join(StepNeed, StepNeed.step_id == Step.id)
        .join(needed, needed.id == StepNeed.needed_step_id)
        .where(Step.job_id.in_(job_ids))
    )
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in session.execute(query):
        found[row.job_id][row.name].append(row.needed)
    return found


def _begun(session: Session, job_ids: Collection[str]) -> dict[str, datetime]:
    """When the running attempts began, by step id."""
    running = (Attempt.job_id.in_(job_ids), Attempt.outcome == AttemptOutcome.RUNNING)
    return {
        row.step_id: row.started_at
        for row in session.execute(select(Attempt.step_id, Attempt.started_at).where(*running))
    }
