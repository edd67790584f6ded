"""Handing steps to workers."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.models import Artifact, Attempt, Job, Step, StepNeed
from app.jobs import repository
from app.jobs.fair_share import Candidate, Means, candidates, is_claimable, next_step
from app.jobs.lifecycle import AttemptOutcome, StepStatus
from app.jobs.planning import file_ids_in, model_ids_in
from app.jobs.workers import see_worker
from fusion.plan import Stage

Resource = Literal["cpu", "gpu"]


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
    stage: Stage
    subject: str | None
    resource: Resource
    spec: dict[str, Any]
    inputs: dict[str, str]
    file_ids: list[str]
    model_ids: list[str]
    checkpoint_artifact_ids: dict[str, str]
    num_batch_halvings: int
    """How often to halve the stage's batches, because earlier attempts ran out of memory."""


def claim_step(
    session: Session, *, worker_id: str, resources: Collection[Resource], lease_seconds: int
) -> ClaimedStep | None:
    """Take the step whose turn it is (`fair_share`), or None. The lease ends by the database's clock."""
    see_worker(session, worker_id=worker_id, resources=resources)
    waiting: list[Candidate] = []
    coming = _noted(_within_means(session, candidates(session, resources)), waiting)
    return (
        _claim_first(session, coming, worker_id=worker_id, lease_seconds=lease_seconds, wait=False)
        # Somebody else is writing to all of these jobs. To wait for more than one could be a deadlock.
        or _claim_first(session, waiting[:1], worker_id=worker_id, lease_seconds=lease_seconds, wait=True)
        or _claim_first(session, waiting, worker_id=worker_id, lease_seconds=lease_seconds, wait=False)
    )


def find_unheard_claim(session: Session, *, worker_id: str, lease_seconds: int) -> ClaimedStep | None:
    """The step that a worker has without knowing it, because the answer to its claim was lost; else None.

    Only for a worker that runs nothing at the moment.
    """
    of_worker = (Step.worker_id == worker_id, Step.status == StepStatus.RUNNING)
    step_id = session.scalar(select(Step.id).where(*of_worker).limit(1))
    job = None if step_id is None else repository.lock_job_of_step(session, step_id)
    if job is None or step_id is None:
        return None
    statement = (
        update(Step).where(Step.id == step_id, *of_worker).values(lease_ends_at=db_time(lease_seconds))
    )
    if session.scalar(statement.returning(Step.id).execution_options(synchronize_session=False)) is None:
        return None
    return _as_claimed(session, job, repository.get_step(session, step_id))


def _within_means(session: Session, waiting: Iterable[Candidate]) -> Iterator[Candidate]:
    """Those whose project has storage and GPU time left; nobody is looked at before it is asked for."""
    found = Means(session)
    for candidate in waiting:
        if candidate.has_means or found.allow(candidate.project_id, resource=candidate.resource):
            yield candidate


def _noted(coming: Iterable[Candidate], seen: list[Candidate]) -> Iterator[Candidate]:
    for candidate in coming:
        seen.append(candidate)
        yield candidate


def _claim_first(
    session: Session, waiting: Iterable[Candidate], *, worker_id: str, lease_seconds: int, wait: bool
) -> ClaimedStep | None:
    """The first step that can be had."""
    for candidate in waiting:
        found = next_step(session, candidate, wait=wait)
        if found is not None and _take(session, found[0], worker_id=worker_id, lease_seconds=lease_seconds):
            job = repository.lock_job(session, found[1])
            return _handed_over(session, job, repository.get_step(session, found[0]), worker_id=worker_id)
    return None


def _take(session: Session, step_id: str, *, worker_id: str, lease_seconds: int) -> bool:
    """Queued -> running; False when the step was taken or held back while its job's lock was waited for."""
    statement = (
        update(Step)
        .where(Step.id == step_id, is_claimable())
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
    return session.scalar(statement.execution_options(synchronize_session=False)) is not None


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
    return _as_claimed(session, job, step)


def _as_claimed(session: Session, job: Job, step: Step) -> ClaimedStep:
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
        stage=cast("Stage", step.stage),
        subject=step.subject,
        resource="gpu" if step.resource == "gpu" else "cpu",
        spec=job.spec,
        inputs={row.name: row.artifact_id for row in session.execute(needed) if row.artifact_id is not None},
        file_ids=file_ids_in(job.spec),
        model_ids=model_ids_in(job.spec),
        checkpoint_artifact_ids={row.role: row.id for row in session.execute(parts)},
        num_batch_halvings=step.num_batch_halvings,
    )
