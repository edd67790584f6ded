"""What a finished job really took, figure by figure, to stand beside its estimate."""

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.artifacts.kinds import ArtifactKind
from app.db.models import Artifact, Job, JobEstimate, Step
from app.jobs.estimates.estimate import Estimate
from app.jobs.estimates.memory import peak_of_job
from app.jobs.estimates.past import PastJob
from app.jobs.experience import seconds_of_steps
from app.jobs.lifecycle import JobStatus


def keep_estimate(session: Session, job: Job, estimate: Estimate) -> None:
    """Store what a new job is expected to take."""
    session.add(JobEstimate(job_id=job.id, project_id=job.project_id, estimate=estimate.to_json()))
    session.flush()


def kept_estimate(session: Session, job: Job) -> Estimate | None:
    """What was expected of a job; None for one from before there were estimates."""
    row = session.get(JobEstimate, job.id)
    return None if row is None else Estimate.from_json(row.estimate)


def actual_figures(session: Session, job: Job) -> Mapping[str, float | None]:
    """By name of the figure; nothing for a job that has not succeeded, and None for what nobody measured."""
    if job.status != JobStatus.SUCCEEDED:
        return {}
    steps = session.scalars(select(Step).where(Step.job_id == job.id).order_by(Step.position)).all()
    past = PastJob(job_id=job.id, spec=job.spec, steps=steps)
    return {
        "tokens": next((step.tokens_done for step in steps if step.stage == "prepare"), None),
        "hours": sum(seconds_of_steps(session, [job.id]).values()) / 3600.0,
        "host_memory": peak_of_job(past, device="cpu"),
        "device_memory": peak_of_job(past, device="cuda"),
        "stored": _stored_bytes(session, job, steps),
    }


def actual_hours_of_steps(session: Session, job: Job) -> dict[str, float]:
    """By name, of the steps that have finished."""
    names = {
        row.id: row.name
        for row in session.execute(
            select(Step.id, Step.name).where(Step.job_id == job.id, Step.finished_at.is_not(None))
        )
    }
    seconds = seconds_of_steps(session, [job.id])
    return {names[step_id]: spent / 3600.0 for step_id, spent in seconds.items() if step_id in names}


def _stored_bytes(session: Session, job: Job, steps: Sequence[Step]) -> float | None:
    """None once something of it was removed."""
    kinds = (ArtifactKind.OUTPUT.value, ArtifactKind.MODEL.value)
    query = select(func.count(), func.sum(Artifact.num_bytes)).where(
        Artifact.job_id == job.id, Artifact.kind.in_(kinds)
    )
    num_artifacts, num_bytes = session.execute(query).one()
    return float(num_bytes) if num_artifacts == len(steps) else None
