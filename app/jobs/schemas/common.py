"""What the shown things have in common: errors, progress, times."""

from dataclasses import asdict
from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict

from app.db.base import unix_seconds
from app.jobs.forecast import Forecast
from app.jobs.progress import JobProgress, StepProgress
from fusion.errors import ErrorCategory
from fusion.plan import Stage


class Shown(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, from_attributes=True)


class ErrorOut(Shown):
    """Why a job or a step failed."""

    code: str
    category: ErrorCategory
    message: str
    hint: str | None = None
    """The way out, where one is known."""
    pointer: str | None = None
    """The field of the spec that is to blame, where one is."""
    retryable: bool
    log_tail: list[str] = []
    """Last lines that the attempt wrote; all of them: `GET /v1/jobs/{id}/logs`."""


class ProgressOut(Shown):
    """How far a job or a step is."""

    stage: Stage | None
    """What is being done, or comes next."""
    step: str | None
    """Name of the step that the figures below are about."""
    percent: float
    """Of the step, or of the whole job by the expected share of each step."""
    done: float | None
    total: float | None
    unit: str | None
    tokens_done: int | None
    """Tokens processed in this stage."""
    eta_seconds: int | None
    """Until it is done: the step at its own rate, the job with all that is to come; null while nobody can
    tell."""
    estimated_finish_at: int | None
    """The same as a time."""
    updated_at: int | None

    @classmethod
    def of_step(cls, progress: StepProgress) -> Self:
        finish_at = (
            None
            if progress.eta_seconds is None or progress.updated_at is None
            else unix_seconds(progress.updated_at) + progress.eta_seconds
        )
        times = {"updated_at": seconds(progress.updated_at), "estimated_finish_at": finish_at}
        return cls.model_validate(asdict(progress) | times)


class JobProgressOut(ProgressOut):
    """How far a job is."""

    stage_eta_seconds: int | None
    """Until the step that is shown is done, at its own rate."""

    @classmethod
    def of_job(cls, progress: JobProgress, forecast: Forecast) -> Self:
        return cls.model_validate(
            asdict(progress)
            | {
                "updated_at": seconds(progress.updated_at),
                "stage_eta_seconds": progress.eta_seconds,
                "eta_seconds": None if forecast.seconds_left is None else round(forecast.seconds_left),
                "estimated_finish_at": seconds(forecast.finish_at),
            }
        )


def seconds(moment: datetime | None) -> int | None:
    """A time as the API shows it, where there is one."""
    return None if moment is None else unix_seconds(moment)
