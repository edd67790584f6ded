"""How far steps and jobs are. Pure: reads rows, asks nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, TypeVar

from app.db.models import Step
from app.jobs.lifecycle import StepStatus

_MIN_ETA_SPAN_SECONDS: Final = 1.0
"""A rate over less time than this says nothing."""


class StepPlace(NamedTuple):
    """What of a step says whether it speaks for its job."""

    status: str
    stage: str
    weight: float
    position: int


PlaceT = TypeVar("PlaceT", StepPlace, Step)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepProgress:
    stage: str | None
    step: str | None
    """Name of the step that the figures are about."""
    percent: float
    done: float | None
    total: float | None
    unit: str | None
    tokens_done: int | None
    eta_seconds: int | None
    updated_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobProgress(StepProgress):
    """`percent` is the job's; the rest is about the step that speaks for it."""


def step_progress(step: Step) -> StepProgress:
    """How far one step is."""
    return StepProgress(
        stage=step.stage,
        step=step.name,
        percent=round(100.0 * _share_done(step), 1),
        done=step.done,
        total=step.total,
        unit=step.unit,
        tokens_done=step.tokens_done,
        eta_seconds=_eta_seconds(step),
        updated_at=step.progress_at,
    )


def job_progress(steps: Sequence[Step]) -> JobProgress:
    """How far a job is: the steps' shares, weighted, and the figures of the step that runs or is next."""
    weight = sum(step.weight for step in steps)
    done = sum(step.weight * _share_done(step) for step in steps)
    speaking = speaker(steps)
    shown = step_progress(speaking) if speaking is not None else None
    return JobProgress(
        stage=shown.stage if shown else None,
        step=shown.step if shown else None,
        percent=round(100.0 * done / weight, 1) if weight else 0.0,
        done=shown.done if shown else None,
        total=shown.total if shown else None,
        unit=shown.unit if shown else None,
        tokens_done=shown.tokens_done if shown else None,
        eta_seconds=shown.eta_seconds if shown else None,
        updated_at=max((step.progress_at for step in steps if step.progress_at is not None), default=None),
    )


def speaker(steps: Sequence[PlaceT]) -> PlaceT | None:
    """The heaviest running step; else the one that failed; else the first that has yet to run."""
    running = [step for step in steps if step.status == StepStatus.RUNNING]
    if running:
        return max(running, key=lambda step: (step.weight, -step.position))
    in_order = sorted(steps, key=lambda step: step.position)
    for status in (StepStatus.FAILED, StepStatus.QUEUED, StepStatus.PENDING):
        found = next((step for step in in_order if step.status == status), None)
        if found is not None:
            return found
    return None


def _share_done(step: Step) -> float:
    if step.status == StepStatus.SUCCEEDED:
        return 1.0
    if not step.total or step.done is None:
        return 0.0
    # A step is done when it has succeeded, not when it has counted to its end.
    return min(max(step.done / step.total, 0.0), 0.99)


def _eta_seconds(step: Step) -> int | None:
    if step.status != StepStatus.RUNNING or step.done is None or step.total is None:
        return None
    if step.first_done is None or step.first_progress_at is None or step.progress_at is None:
        return None
    elapsed = (step.progress_at - step.first_progress_at).total_seconds()
    gained = step.done - step.first_done
    if elapsed < _MIN_ETA_SPAN_SECONDS or gained <= 0:
        return None
    return max(0, round((step.total - step.done) * elapsed / gained))
