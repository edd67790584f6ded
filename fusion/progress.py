"""How a stage talks back while it works: progress, metrics, finished parts, notes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


class Progress(Protocol):
    """What a stage is handed. Every call is cheap and never blocks on the network."""

    def update(self, done: float, total: float, *, unit: str, tokens: int | None = None) -> None:
        """`done` of `total` units (windows, steps, documents); `tokens` processed so far in this stage."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Numbers of one optimiser step, e.g. `{"loss": 3.1, "clm_loss": 3.2}`."""

    def part_finished(self, path: Path) -> None:
        """A folder under the stage's out_dir is complete (manifest written) and can be kept elsewhere.

        Another attempt, perhaps on another machine, finds it at the same place in its out_dir.
        """

    def note(self, message: str, **details: Any) -> None:
        """A line for the job's history: a back-off, a fallback, a quarantined row."""


class NullProgress:
    """Progress that nobody watches."""

    def update(self, done: float, total: float, *, unit: str, tokens: int | None = None) -> None:
        return None

    def metrics(self, step: int, values: dict[str, float]) -> None:
        return None

    def part_finished(self, path: Path) -> None:
        return None

    def note(self, message: str, **details: Any) -> None:
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class StageReport:
    """What a stage returns: figures for the job's report, all JSON values."""

    figures: dict[str, Any] = field(default_factory=dict)
