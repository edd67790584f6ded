"""The curves of a finished job as a file, which OpenAI's clients look for under `result_files`.

It is written when somebody asks for it: the points of a finished job do not change, so it is the same every
time, and its id, which is the job's, is known at the moment the job ends. A job that ends, for whatever
reason, has nothing to store for it, and a job that is removed leaves nothing behind.
"""

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.catalog.repository import FINISHED
from app.db.base import is_id
from app.db.models import Job, MetricPoint, Step
from app.errors import Gone

RESULT_PURPOSE: Final[Literal["fine-tune-results"]] = "fine-tune-results"
_FUSED: Final = "train.fused"
_OPENAI_NAMES: Final = {"loss": "train_loss"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultFile:
    """One row per optimiser step; the names of the control's numbers begin with `control_`."""

    id: str
    job_id: str
    filename: str
    created_at: datetime
    content: bytes
    num_rows: int
    columns: tuple[str, ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def result_file_id(job_id: str) -> str:
    """The id of a job's result file: `file-` and the job's own 26 characters."""
    return f"file-{job_id.partition('-')[2]}"


def has_result_file(job: Job) -> bool:
    """Whether the job has ended, and measured something that is still kept."""
    has_points = job.last_metric_seq > job.removed_metric_seq
    return job.status in FINISHED and has_points and job.finished_at is not None


def job_of_result_file(session: Session, *, project_id: str, file_id: str) -> Job | None:
    """The job whose result file this is; None where it is none.

    Raises:
        Gone: the job's curves are no longer kept.
    """
    if not is_id(file_id, prefix="file"):
        return None
    job_id = f"job-{file_id.partition('-')[2]}"
    of_project = (Job.project_id == project_id, Job.deleted_at.is_(None))
    job = session.scalars(select(Job).where(Job.id == job_id, *of_project)).one_or_none()
    if job is None or job.status not in FINISHED or job.last_metric_seq == 0:
        return None
    if not has_result_file(job):
        raise Gone(
            f"{file_id} held the curves of {job.id}, which are no longer kept", code="metrics_not_kept"
        )
    return job


def write_result_file(session: Session, job: Job) -> ResultFile:
    """The curves of a job that has a result file."""
    assert job.finished_at is not None
    query = (
        select(Step.name, MetricPoint.metric_step, MetricPoint.values)
        .join(Step, Step.id == MetricPoint.step_id)
        .where(MetricPoint.job_id == job.id, MetricPoint.seq > job.removed_metric_seq)
    )
    columns, rows = _table((row[0], row[1], row[2]) for row in session.execute(query))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return ResultFile(
        id=result_file_id(job.id),
        job_id=job.id,
        filename="step_metrics.csv",
        created_at=job.finished_at,
        content=text.getvalue().encode(),
        num_rows=len(rows),
        columns=columns,
    )


def _table(
    points: Iterable[tuple[str, int, dict[str, float | None]]],
) -> tuple[tuple[str, ...], list[list[float | int | None]]]:
    """Column names and rows, by optimiser step. A number that is not there, or was not finite, is empty."""
    by_step: dict[int, dict[str, float | None]] = defaultdict(dict)
    for step_name, step, values in points:
        prefix = "" if step_name == _FUSED else f"{step_name.removeprefix('train.')}_"
        for name, value in values.items():
            by_step[step][prefix + _OPENAI_NAMES.get(name, name)] = value
    names = {name for values in by_step.values() for name in values}
    # The fused model's loss first, as OpenAI has it; then its other numbers, then the control's.
    ordered = sorted(names, key=lambda name: (name != "train_loss", name.startswith("control_"), name))
    rows = [[step, *(values.get(name) for name in ordered)] for step, values in sorted(by_step.items())]
    return ("step", *ordered), rows
