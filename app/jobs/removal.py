"""Removing jobs that have finished: from sight, or with what they stored."""

from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from app.artifacts.garbage import drop_purged_artifacts
from app.db.base import db_time, is_id
from app.db.models import Job
from app.db.session import transaction
from app.errors import Conflict
from app.jobs import repository
from app.jobs.actions import no_job
from app.jobs.attempt_logs import drop_logs
from app.jobs.lifecycle import Action, JobStatus, why_refused
from app.preconditions import Expected
from app.storage.store import ObjectStore


def delete_job(
    engine: Engine, store: ObjectStore, *, project_id: str, job_id: str, purge: bool, expected: Expected
) -> int:
    """Hide a job from every list; with `purge` its artifacts go too, and the bytes freed are returned.

    A fused model that is registered keeps its artifact; it goes with the model. What a crash leaves of a
    purge is collected with the other garbage.

    Raises:
        NotFound: there is no such job, or it is deleted already and not to be purged.
        PreconditionFailed: it is not in the version that was expected.
        Conflict: it has not finished.
    """
    with transaction(engine) as session:
        _mark(session, project_id=project_id, job_id=job_id, purge=purge, expected=expected)
        num_log_bytes = drop_logs(session, job_id) if purge else 0
    return num_log_bytes + drop_purged_artifacts(engine, store, job_id=job_id).num_bytes if purge else 0


def _mark(session: Session, *, project_id: str, job_id: str, purge: bool, expected: Expected) -> None:
    job = _lock(session, project_id=project_id, job_id=job_id, also_deleted=purge)
    expected.require(job.last_event_seq)
    refusal = why_refused(Action.DELETE, JobStatus(job.status))
    if refusal is not None:
        code, reason = refusal
        raise Conflict(reason, code=code)
    changes = {}
    if job.deleted_at is None:
        changes["deleted_at"] = db_time()
        repository.add_event(session, job, "job_deleted", "job deleted")
    if purge and job.purged_at is None:
        changes["purged_at"] = db_time()
        repository.add_event(session, job, "job_purged", "its artifacts go")
    if changes:
        session.execute(update(Job).where(Job.id == job.id).values(**changes))


def _lock(session: Session, *, project_id: str, job_id: str, also_deleted: bool) -> Job:
    query = select(Job.id).where(Job.id == job_id, Job.project_id == project_id)
    if not also_deleted:
        query = query.where(Job.deleted_at.is_(None))
    if not is_id(job_id, prefix="job") or session.scalar(query) is None:
        raise no_job(job_id)
    return repository.lock_job(session, job_id)
