"""Checkpoints of a job's trainings as OpenAI's clients see them, the newest first."""

from sqlalchemy.orm import Session

from app.checkpoints.repository import Checkpoint, checkpoints_of
from app.db.base import unix_seconds
from app.db.models import Job
from app.lists import PageRequest
from app.openai_face.schemas import CheckpointMetrics, FineTuningCheckpoint


def list_checkpoints(
    session: Session, job: Job, *, page: PageRequest
) -> tuple[list[FineTuningCheckpoint], bool]:
    """A page of what is there of the job's checkpoints, and whether more follow."""
    newest_first = checkpoints_of(session, project_id=job.project_id, job_id=job.id)[::-1]
    left = [found for found in newest_first if page.after is None or found.artifact.id < page.after]
    return [_shown(found, job) for found in left[: page.limit]], len(left) > page.limit


def _shown(checkpoint: Checkpoint, job: Job) -> FineTuningCheckpoint:
    artifact = checkpoint.artifact
    return FineTuningCheckpoint(
        id=artifact.id,
        created_at=unix_seconds(artifact.created_at),
        fine_tuning_job_id=job.id,
        fine_tuned_model_checkpoint=checkpoint.model_id or artifact.id,
        step_number=checkpoint.number,
        metrics=CheckpointMetrics(step=checkpoint.number, train_loss=checkpoint.metrics.get("loss")),
    )
