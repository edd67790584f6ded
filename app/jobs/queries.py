"""Reading jobs for the API, with their progress, steps and attempts."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.db.models import Attempt, Job, Model, Step, StepNeed
from app.errors import NotFound
from app.jobs.estimates.actual import actual_figures, actual_hours_of_steps, kept_estimate
from app.jobs.experience import earlier_measurements, measured_steps, seconds_of_steps
from app.jobs.forecast import NOTHING_AHEAD, expected_of_steps, forecasts
from app.jobs.labels import labels_of
from app.jobs.lifecycle import FINISHED_JOBS
from app.jobs.progress import job_progress, step_progress
from app.jobs.schemas import AttemptOut, EstimateOut, JobInFull, JobOut, StepOut


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
    models = _models_of(session, [job.id for job in jobs if job.started_at is not None])
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


def _models_of(session: Session, job_ids: Sequence[str]) -> dict[str, Model]:
    """What jobs have published, by the job's id."""
    if not job_ids:
        return {}
    query = select(Model).where(Model.job_id.in_(job_ids))
    return {model.job_id: model for model in session.scalars(query) if model.job_id is not None}


def show_job_in_full(session: Session, job: Job) -> JobInFull:
    """A job with its estimate, and what each figure of it came to."""
    estimate = kept_estimate(session, job)
    shown = None
    if estimate is not None:
        actual, hours = actual_figures(session, job), actual_hours_of_steps(session, job)
        shown = EstimateOut.of(estimate, actual=actual, actual_hours=hours)
    return JobInFull(**show_jobs(session, [job])[0].model_dump(), estimate=shown)


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
    names = step_names(session, job, step_name)
    query = _attempts_of(job).where(Attempt.step_id.in_(names))
    return [AttemptOut.of(attempt, step_name=names[attempt.step_id]) for attempt in session.scalars(query)]


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


def step_names(session: Session, job: Job, step_name: str | None) -> dict[str, str]:
    """Names of the job's steps by id, or of the one that is named.

    Raises:
        NotFound: the job has no such step.
    """
    query = select(Step.id, Step.name).where(Step.job_id == job.id).order_by(Step.position)
    names = {row.id: row.name for row in session.execute(query) if step_name in (None, row.name, row.id)}
    if not names:
        raise NotFound(f"{job.id} has no step {step_name!r}", code="step_not_found")
    return names


def seq_of(
    session: Session,
    seq: InstrumentedAttribute[int],
    id_column: InstrumentedAttribute[str],
    of_job: ColumnElement[bool],
    cursor: str,
) -> int:
    """The number of an item of a job's, given its id.

    Raises:
        NotFound: the job has no such item.
    """
    found = session.scalar(select(seq).where(of_job, id_column == cursor))
    if found is None:
        raise NotFound(f"the list has no item {cursor!r} to continue from", code="cursor_not_found")
    return found
