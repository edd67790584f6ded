"""Reading jobs for the API: with their progress, steps, history and curves."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.db.models import Attempt, Event, Job, MetricPoint, Model, Step, StepNeed
from app.errors import NotFound
from app.jobs.experience import earlier_measurements, measured_steps, seconds_of_steps
from app.jobs.forecast import NOTHING_AHEAD, expected_of_steps, forecasts
from app.jobs.labels import labels_of
from app.jobs.lifecycle import FINISHED_JOBS
from app.jobs.progress import job_progress, step_progress
from app.jobs.schemas import AttemptOut, EventOut, JobOut, MetricPointOut, StepOut
from app.lists import PageRequest, page_of_rows

MAX_POINTS_PER_CURVE: Final = 2000


def show_job(session: Session, job: Job) -> JobOut:
    """A job as the API shows it, as the database has it now."""
    session.refresh(job)
    return show_jobs(session, [job])[0]


def show_jobs(session: Session, jobs: Sequence[Job]) -> list[JobOut]:
    """Jobs as the API shows them, with a few queries however many they are."""
    ids = [job.id for job in jobs]
    steps: dict[str, list[Step]] = {job_id: [] for job_id in ids}
    for step in session.scalars(select(Step).where(Step.job_id.in_(ids)).order_by(Step.position)):
        steps[step.job_id].append(step)
    results = select(Model).where(Model.job_id.in_(ids), Model.checkpoint_id.is_(None))
    models = {model.job_id: model for model in session.scalars(results)}
    labels = labels_of(session, ids)
    ahead = forecasts(session, jobs, steps)
    shown = []
    for job in jobs:
        model = models.get(job.id)
        shown.append(
            JobOut.of(
                job,
                labels=labels[job.id],
                progress=job_progress(steps[job.id]),
                forecast=ahead.get(job.id, NOTHING_AHEAD),
                model_id=model.id if model else None,
                artifact_id=model.artifact_id if model else None,
            )
        )
    return shown


def list_steps(session: Session, job: Job) -> list[StepOut]:
    """All steps of a job in the order of its plan."""
    steps = session.scalars(select(Step).where(Step.job_id == job.id).order_by(Step.position)).all()
    names = {step.id: step.name for step in steps}
    needs: dict[str, list[str]] = {step.id: [] for step in steps}
    for need in session.scalars(select(StepNeed).where(StepNeed.step_id.in_(names))):
        needs[need.step_id].append(names[need.needed_step_id])
    last = {attempt.step_id: attempt for attempt in session.scalars(_attempts_of(job))}
    expected = _expected_of(session, job, steps)
    return [
        StepOut.of(
            step,
            progress=step_progress(step),
            needs=sorted(needs[step.id]),
            last_attempt=last.get(step.id),
            expected_seconds=expected.get(step.name),
        )
        for step in steps
    ]


def list_attempts(session: Session, job: Job, *, step_name: str | None) -> list[AttemptOut]:
    """Every attempt at the steps of a job, in the order of its plan."""
    names = _step_names(session, job, step_name)
    query = _attempts_of(job).where(Attempt.step_id.in_(names))
    return [AttemptOut.of(attempt, step_name=names[attempt.step_id]) for attempt in session.scalars(query)]


def list_events(session: Session, job: Job, *, page: PageRequest) -> tuple[list[EventOut], bool]:
    """History of a job by its sequence numbers."""
    query = select(Event).where(Event.job_id == job.id)
    events, has_more = page_of_rows(
        session,
        query,
        id_column=Event.seq,
        page=page,
        cursor=lambda cursor: _seq_of(session, Event.seq, Event.id, Event.job_id == job.id, cursor),
    )
    return [EventOut.of(event) for event in events], has_more


def list_metric_points(
    session: Session, job: Job, *, step_name: str | None, page: PageRequest
) -> tuple[list[MetricPointOut], bool]:
    """Points of a job's curves in the order they were written."""
    names = _step_names(session, job, step_name)
    query = select(MetricPoint).where(MetricPoint.job_id == job.id, MetricPoint.step_id.in_(names))
    points, has_more = page_of_rows(
        session,
        query,
        id_column=MetricPoint.seq,
        page=page,
        cursor=lambda cursor: _seq_of(
            session, MetricPoint.seq, MetricPoint.id, MetricPoint.job_id == job.id, cursor
        ),
    )
    return [MetricPointOut.of(point, step_name=names[point.step_id]) for point in points], has_more


def sample_curves(
    session: Session, job: Job, *, step_name: str | None, max_points: int
) -> list[MetricPointOut]:
    """At most `max_points` points of each step's curve, evenly spread, the first and the last among them."""
    names = _step_names(session, job, step_name)
    shown: list[MetricPointOut] = []
    for step_id, name in names.items():
        rank = (func.row_number().over(order_by=MetricPoint.metric_step) - 1).label("rank")
        ranked = select(MetricPoint.id, rank).where(MetricPoint.step_id == step_id).subquery()
        num_points = session.scalar(select(func.count()).where(MetricPoint.step_id == step_id)) or 0
        wanted = _even_ranks(num_points, max_points)
        query = (
            select(MetricPoint)
            .join(ranked, ranked.c.id == MetricPoint.id)
            .where(ranked.c.rank.in_(wanted))
            .order_by(MetricPoint.metric_step)
        )
        shown += [MetricPointOut.of(point, step_name=name) for point in session.scalars(query)]
    return shown


def _attempts_of(job: Job) -> Select[Attempt]:
    """In the order of the plan, those of a step by number."""
    query = select(Attempt).join(Step, Step.id == Attempt.step_id).where(Attempt.job_id == job.id)
    return query.order_by(Step.position, Attempt.attempt)


def _expected_of(session: Session, job: Job, steps: Sequence[Step]) -> dict[str, float]:
    """Seconds of the steps of a job that is not over, by what such steps took."""
    if job.status in FINISHED_JOBS:
        return {}
    own = measured_steps(job.spec, steps, seconds_of_steps(session, [job.id]))
    earlier = earlier_measurements(session, project_id=job.project_id)
    return expected_of_steps(job.spec, steps, [*own, *earlier], job_id=job.id)


def _even_ranks(num_points: int, max_points: int) -> list[int]:
    if num_points <= max_points:
        return list(range(num_points))
    if max_points == 1:
        return [num_points - 1]
    return [index * (num_points - 1) // (max_points - 1) for index in range(max_points)]


def _step_names(session: Session, job: Job, step_name: str | None) -> dict[str, str]:
    query = select(Step.id, Step.name).where(Step.job_id == job.id).order_by(Step.position)
    names = {row.id: row.name for row in session.execute(query) if step_name in (None, row.name, row.id)}
    if not names:
        raise NotFound(f"{job.id} has no step {step_name!r}", code="step_not_found")
    return names


def _seq_of(
    session: Session,
    seq: InstrumentedAttribute[int],
    id_column: InstrumentedAttribute[str],
    of_job: ColumnElement[bool],
    cursor: str,
) -> int:
    found = session.scalar(select(seq).where(of_job, id_column == cursor))
    if found is None:
        raise NotFound(f"the list has no item {cursor!r} to continue from", code="cursor_not_found")
    return found
