"""Logs of attempts: written under the attempt's fence while it runs, and kept in bounds.

Of a long log the head and the tail are kept, because causes stand at the beginning and failures at the end.
"""

from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.db.fence import hold_step
from app.db.models import LogChunk
from app.jobs import repository
from app.jobs.log_text import clean

HEAD_BYTES: Final = 256 << 10
TAIL_BYTES: Final = 1 << 20
MAX_CHUNK_BYTES: Final = 64 << 10


def append_log(session: Session, *, step_id: str, attempt: int, first_byte: int, data: bytes) -> bool:
    """Store what an attempt wrote from `first_byte` on, whole lines if possible. Safe to repeat.

    Returns:
        False when the attempt no longer has its step.
    """
    job = repository.lock_job_of_step(session, step_id)
    if job is None or not hold_step(session, step_id=step_id, attempt=attempt):
        return False
    of_attempt = (LogChunk.step_id == step_id, LogChunk.attempt == attempt)
    if session.scalar(select(LogChunk.seq).where(*of_attempt, LogChunk.first_byte == first_byte)) is not None:
        return True
    job.last_log_seq += 1
    session.add(
        LogChunk(
            project_id=job.project_id,
            job_id=job.id,
            seq=job.last_log_seq,
            step_id=step_id,
            attempt=attempt,
            first_byte=first_byte,
            num_bytes=len(data),
            text=clean(data),
        )
    )
    session.flush()
    end = first_byte + len(data)
    middle = (LogChunk.first_byte >= HEAD_BYTES, LogChunk.first_byte + LogChunk.num_bytes <= end - TAIL_BYTES)
    session.execute(
        delete(LogChunk).where(*of_attempt, *middle), execution_options={"synchronize_session": False}
    )
    return True


def drop_logs(session: Session, job_id: str) -> int:
    """Remove the logs of a job that is removed for good; how many bytes they took."""
    num_bytes = session.scalar(select(func.sum(LogChunk.num_bytes)).where(LogChunk.job_id == job_id)) or 0
    session.execute(
        delete(LogChunk).where(LogChunk.job_id == job_id), execution_options={"synchronize_session": False}
    )
    return int(num_bytes)
