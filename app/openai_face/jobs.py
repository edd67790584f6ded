"""Rows of jobs as OpenAI's clients see them, with a few queries however many they are."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.catalog.result_files import has_result_file, result_file_id
from app.db.models import Job, Step
from app.jobs import queries
from app.jobs.lifecycle import FINISHED_JOBS, JobStatus
from app.openai_face.schemas import FineTuningJob


def show_jobs(session: Session, jobs: Sequence[Job]) -> list[FineTuningJob]:
    """Jobs in OpenAI's shape, in the order given."""
    tokens = _trained_tokens(session, [job.id for job in jobs if JobStatus(job.status) in FINISHED_JOBS])
    return [
        FineTuningJob.of(
            job,
            shown,
            trained_tokens=tokens.get(job.id),
            result_files=[result_file_id(job.id)] if has_result_file(job) else [],
        )
        for job, shown in zip(jobs, queries.show_jobs(session, jobs), strict=True)
    ]


def show_job(session: Session, job: Job) -> FineTuningJob:
    """A job in OpenAI's shape, as the database has it now."""
    session.refresh(job)
    return show_jobs(session, [job])[0]


def _trained_tokens(session: Session, job_ids: Sequence[str]) -> dict[str, int]:
    """Tokens that the trainings of jobs have seen; none of a job that came to none."""
    query = (
        select(Step.job_id, func.sum(Step.tokens_done))
        .where(Step.job_id.in_(job_ids), Step.stage == "train", Step.tokens_done.is_not(None))
        .group_by(Step.job_id)
    )
    return {row[0]: row[1] or 0 for row in session.execute(query)}
