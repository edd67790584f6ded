"""What a job is expected to take, and what it took."""

from collections.abc import Mapping
from typing import Literal, Self

from app.jobs.estimates.estimate import UNITS, Estimate
from app.jobs.estimates.figures import Basis, Figure
from app.jobs.schemas.common import Shown

Unit = Literal["tokens", "hours", "bytes"]
Number = int | float


class FigureOut(Shown):
    """A number between `low` and `high`; all three are null where nobody can tell, and `why` says why."""

    value: Number | None
    low: Number | None
    high: Number | None
    unit: Unit
    basis: Basis
    """`measured`: counted or timed here. `modelled`: computed from known sizes. `default`: assumed."""
    why: str
    actual: Number | None = None
    """What it came to, once the job has succeeded; null before, and for what is not measured."""

    @classmethod
    def of(cls, figure: Figure, *, unit: str, actual: float | None = None) -> Self:
        return cls.model_validate(
            {
                "value": _shown(figure.value, unit),
                "low": _shown(figure.low, unit),
                "high": _shown(figure.high, unit),
                "unit": unit,
                "basis": figure.basis,
                "why": figure.why,
                "actual": _shown(actual, unit),
            }
        )


class EstimateOut(Shown):
    """What a job is expected to take."""

    object: Literal["job_estimate"] = "job_estimate"
    tokens: FigureOut
    """Of the text, as the target's tokenizer reads it, each once."""
    hours: FigureOut
    """Of a worker that runs all steps one after another, waiting not counted."""
    host_memory: FigureOut
    """Of the largest step, on a machine without an accelerator."""
    device_memory: FigureOut
    """Of the largest step, on an accelerator."""
    disk: FigureOut
    """Working files at their most, checkpoints included. Never measured."""
    stored: FigureOut
    """What stays stored: text, captures, lessons, models."""
    steps: dict[str, FigureOut]
    """Hours of each step."""
    warnings: list[str]
    """What will stop the job as it stands."""
    allowed_to_proceed: bool
    """False where there is such a warning."""

    @classmethod
    def of(
        cls,
        estimate: Estimate,
        *,
        actual: Mapping[str, float | None] | None = None,
        actual_hours: Mapping[str, float] | None = None,
    ) -> Self:
        actual, hours = actual or {}, actual_hours or {}
        figures = {
            name: FigureOut.of(estimate.figures[name], unit=unit, actual=actual.get(name))
            for name, unit in UNITS.items()
        }
        steps = {
            name: FigureOut.of(figure, unit="hours", actual=hours.get(name))
            for name, figure in estimate.steps.items()
        }
        return cls.model_validate(
            figures
            | {
                "steps": steps,
                "warnings": estimate.warnings,
                "allowed_to_proceed": not estimate.warnings,
            }
        )


def _shown(value: float | None, unit: str) -> Number | None:
    if value is None:
        return None
    return round(value, 5) if unit == "hours" else round(value)
