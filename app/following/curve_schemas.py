"""What the API shows of training curves."""

from typing import Literal, Self

from app.following.curves import Axis, Boundary, Series
from app.jobs.schemas.common import Shown


class AttemptStart(Shown):
    """Where an attempt's part of a curve begins. What an earlier one wrote beyond it is left out."""

    attempt: int
    step: int
    """Its first optimiser step."""
    index: int
    """Of its first point in `x`; the length of `x` where no point of it is shown."""


class SeriesOut(Shown):
    """One curve as columns, in the order of optimiser steps. Lists are as long as `x`."""

    x: list[int | float | None]
    y: list[float | None]
    """The last value of each part of the curve; null for one that was not finite."""
    min: list[float | None]
    max: list[float | None]
    """Of the finite values of the part."""
    last: float | None
    best: float | None
    """The smallest value."""
    n: int
    """Points that the curve has in this cut."""
    downsampled: bool
    """Whether an item of the lists stands for several points."""
    nonfinite: list[int]
    """Indices where a value was NaN or infinite."""
    attempts: list[AttemptStart]

    @classmethod
    def of(cls, series: Series, boundaries: list[Boundary]) -> Self:
        finite = [low for low in series.low if low is not None]
        return cls(
            x=series.x,
            y=series.y,
            min=series.low,
            max=series.high,
            last=series.y[-1] if series.y else None,
            best=min(finite, default=None),
            n=sum(series.counts),
            downsampled=any(count > 1 for count in series.counts),
            nonfinite=series.nonfinite,
            attempts=[
                AttemptStart(
                    attempt=part.attempt,
                    step=part.first_step,
                    index=sum(step < part.first_step for step in series.steps),
                )
                for part in boundaries
            ],
        )


class CurvesOut(Shown):
    """Training curves of a job, by `STEP/VALUE`."""

    object: Literal["metrics"] = "metrics"
    job_id: str
    x: Axis
    series: dict[str, SeriesOut]
    removed_until: int
    """Points up to this number are no longer kept; 0 where all are."""
    next_since: int
    """Send it as `since` to get what was written after this answer, also where it replaces earlier points."""
