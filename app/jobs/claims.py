"""Handing steps to workers: claim, heartbeat, and what a running attempt reports."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.insert import insert_if_absent
from app.db.json_values import storable
from app.db.models import Artifact, Attempt, Job, MetricPoint, Step, StepNeed, Worker
from app.jobs import repository
from app.jobs.lifecycle import AttemptOutcome, Desired, Instruction, StepStatus
from app.jobs.planning import file_ids_in, model_ids_in

Resource = Literal["cpu", "gpu"]

SEEN_EVERY_SECONDS = 10
"""A worker that polls more often is written down only this often."""
_CLAIM_TRIES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimedStep:
    """A step that a worker now has, with everything it needs to run it.

    `inputs` maps the name of each needed step to the artifact with its output. `checkpoint_artifact_ids` maps
    the path of a finished part (relative to the output folder) to the artifact that restores it.
    """

    step_id: str
    job_id: str
    project_id: str
    attempt: int
    name: str
    stage: str
    subject: str | None
    resource: Resource
    spec: dict[str, Any]
    inputs: dict[str, str]
    file_ids: list[str]
    model_ids: list[str]
    checkpoint_artifact_ids: dict[str, str]


def claim_step(
    session: Session, *, worker_id: str, resources: Collection[Resource], lease_seconds: int
) -> ClaimedStep | None:
    """Take the oldest step that fits, or None. The lease ends by the database's clock."""
    see_worker(session, worker_id=worker_id, resources=resources)
    for _ in range(_CLAIM_TRIES):
        job = _job_with_ready_step(session, resources)
        if job is None:
            return None
        step = _take(session, job, worker_id=worker_id, resources=resources, lease_seconds=lease_seconds)
        # Another worker can take the step while this one waits for the lock of its job.
        if step is not None:
            return _handed_over(session, job, step, worker_id=worker_id)
    return None


def heartbeat(session: Session, *, step_id: str, attempt: int, lease_seconds: int) -> Instruction:
    """Extend the lease and hear what to do."""
    # Rows are locked in the order worker, job, step, here as everywhere.
    _touch_worker(session, session.scalar(select(Step.worker_id).where(repository.running(step_id, attempt))))
    statement = (
        update(Step)
        .where(repository.running(step_id, attempt))
        .values(lease_ends_at=db_time(lease_seconds))
        .returning(Step.job_id)
        .execution_options(synchronize_session=False)
    )
    job_id = session.scalar(statement)
    if job_id is None:
        return Instruction.LOST
    desired = session.scalars(select(Job.desired).where(Job.id == job_id)).one()
    if desired == Desired.CANCEL or repository.has_failed_step(session, job_id):
        return Instruction.CANCEL
    return Instruction.PAUSE if desired == Desired.PAUSE else Instruction.CONTINUE


def holds_step(session: Session, *, step_id: str, attempt: int) -> bool:
    """Whether the attempt still has the step, with the step's row locked until the transaction ends.

    Whoever writes rows on behalf of an attempt asks this first, in the same transaction.
    """
    query = select(Step.id).where(repository.running(step_id, attempt)).with_for_update(key_share=True)
    return session.scalar(query) is not None


def record_progress(
    session: Session, *, step_id: str, attempt: int, done: float, total: float, unit: str, tokens: int | None
) -> bool:
    """Store how far the attempt is."""
    statement = (
        update(Step)
        .where(repository.running(step_id, attempt))
        .values(
            done=storable(float(done)),
            total=storable(float(total)),
            unit=storable(unit)[:40],
            tokens_done=func.coalesce(tokens, Step.tokens_done),
            first_done=func.coalesce(Step.first_done, storable(float(done))),
            first_progress_at=func.coalesce(Step.first_progress_at, db_time()),
            progress_at=db_time(),
        )
        .returning(Step.id)
    )
    return session.scalar(statement.execution_options(synchronize_session=False)) is not None


def record_metrics(
    session: Session, *, step_id: str, attempt: int, points: Sequence[tuple[int, Mapping[str, float]]]
) -> bool:
    """Store numbers by optimiser step; a repeated step replaces what an earlier attempt wrote."""
    job = repository.lock_job_of_step(session, step_id)
    if job is None or not holds_step(session, step_id=step_id, attempt=attempt):
        return False
    by_step = dict(points)
    session.execute(
        delete(MetricPoint).where(MetricPoint.step_id == step_id, MetricPoint.metric_step.in_(by_step)),
        execution_options={"synchronize_session": False},
    )
    for seq, (metric_step, values) in enumerate(by_step.items(), start=job.last_metric_seq + 1):
        session.add(
            MetricPoint(
                project_id=job.project_id,
                job_id=job.id,
                seq=seq,
                step_id=step_id,
                metric_step=metric_step,
                attempt=attempt,
                values=storable(dict(values)),
            )
        )
    job.last_metric_seq += len(by_step)
    session.flush()
    return True


def record_note(
    session: Session, *, step_id: str, attempt: int, message: str, details: Mapping[str, Any]
) -> bool:
    """Add a line of the attempt's to the job's history."""
    job = repository.lock_job_of_step(session, step_id)
    if job is None or not holds_step(session, step_id=step_id, attempt=attempt):
        return False
    repository.add_event(
        session, job, "note", message, step_id=step_id, attempt=attempt, details=dict(details)
    )
    return True


def see_worker(session: Session, *, worker_id: str, resources: Collection[Resource]) -> None:
    """Remember that a worker is there and what it can run."""
    wanted: list[str] = sorted(resources)
    worker = session.get(Worker, worker_id)
    if worker is None:
        now = {"started_at": db_time(), "last_seen_at": db_time()}
        insert_if_absent(session, Worker, {"id": worker_id, "resources": wanted, **now})
    elif list(worker.resources) != wanted:
        worker.resources = wanted
    else:
        _touch_worker(session, worker_id)


def _touch_worker(session: Session, worker_id: str | None) -> None:
    statement = (
        update(Worker)
        .where(Worker.id == worker_id, Worker.last_seen_at < db_time(-SEEN_EVERY_SECONDS))
        .values(last_seen_at=db_time())
    )
    session.execute(statement.execution_options(synchronize_session=False))


def _job_with_ready_step(session: Session, resources: Collection[Resource]) -> Job | None:
    """The oldest job that has a step to claim, locked; one that nobody else holds where there is one."""
    ready = (
        select(Step.id)
        .where(
            Step.job_id == Job.id,
            Step.status == StepStatus.QUEUED,
            Step.resource.in_(resources),
            Step.ready_at <= db_time(),
        )
        .exists()
    )
    query = select(Job).where(Job.desired == Desired.RUN, ready).order_by(Job.id).limit(1)
    query = query.execution_options(populate_existing=True)
    free = session.scalars(query.with_for_update(key_share=True, skip_locked=True, of=Job)).one_or_none()
    return free or session.scalars(query.with_for_update(key_share=True, of=Job)).one_or_none()


def _take(
    session: Session, job: Job, *, worker_id: str, resources: Collection[Resource], lease_seconds: int
) -> Step | None:
    candidate = (
        select(Step.id)
        .where(
            Step.job_id == job.id,
            Step.status == StepStatus.QUEUED,
            Step.resource.in_(resources),
            Step.ready_at <= db_time(),
        )
        .order_by(Step.position)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    statement = (
        update(Step)
        .where(Step.id == candidate, Step.status == StepStatus.QUEUED)
        .values(
            status=StepStatus.RUNNING,
            attempt=Step.attempt + 1,
            worker_id=worker_id,
            lease_ends_at=db_time(lease_seconds),
            started_at=func.coalesce(Step.started_at, db_time()),
            first_done=None,
            first_progress_at=None,
            status_reason=None,
        )
        .returning(Step.id)
    )
    step_id = session.scalar(statement.execution_options(synchronize_session=False))
    return None if step_id is None else repository.get_step(session, step_id)


def _handed_over(session: Session, job: Job, step: Step, *, worker_id: str) -> ClaimedStep:
    session.add(
        Attempt(
            step_id=step.id,
            attempt=step.attempt,
            job_id=job.id,
            project_id=job.project_id,
            worker_id=worker_id,
            outcome=AttemptOutcome.RUNNING,
        )
    )
    repository.add_event(
        session,
        job,
        "step_started",
        f"{step.name} started (attempt {step.attempt})",
        step_id=step.id,
        attempt=step.attempt,
        details={"worker_id": worker_id},
    )
    repository.refresh_job(session, job)
    needed = (
        select(Step.name, Step.artifact_id)
        .join(StepNeed, StepNeed.needed_step_id == Step.id)
        .where(StepNeed.step_id == step.id)
    )
    parts = (
        select(Artifact.role, Artifact.id)
        .where(Artifact.step_id == step.id, Artifact.kind == "checkpoint")
        .order_by(Artifact.attempt, Artifact.id)
    )
    return ClaimedStep(
        step_id=step.id,
        job_id=job.id,
        project_id=job.project_id,
        attempt=step.attempt,
        name=step.name,
        stage=step.stage,
        subject=step.subject,
        resource="gpu" if step.resource == "gpu" else "cpu",
        spec=job.spec,
        inputs={row.name: row.artifact_id for row in session.execute(needed) if row.artifact_id is not None},
        file_ids=file_ids_in(job.spec),
        model_ids=model_ids_in(job.spec),
        checkpoint_artifact_ids={row.role: row.id for row in session.execute(parts)},
    )
