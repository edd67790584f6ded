"""What a local run shows on a terminal: a bar per step (plain lines without a terminal), and its report."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from fusion.plan import PlannedStep
from fusion.progress import Progress as StageProgress

_LINE_EVERY_SECONDS = 10.0


@dataclass(slots=True)
class ConsoleProgress:
    """One step's progress; implements `fusion.progress.Progress`."""

    bars: Progress
    task: TaskID
    name: str
    last_line: float = 0.0

    def update(self, done: float, total: float, *, unit: str, tokens: int | None = None) -> None:
        self.bars.update(self.task, completed=done, total=total, unit=unit)
        now = time.monotonic()
        if not self.bars.console.is_terminal and now - self.last_line > _LINE_EVERY_SECONDS:
            self.last_line = now
            self.bars.console.print(f"{self.name}: {done:g} of {total:g} {unit}")

    def metrics(self, step: int, values: dict[str, float]) -> None:
        if "loss" in values:
            self.bars.update(self.task, detail=f"loss {values['loss']:.4f}")

    def part_finished(self, path: Path) -> None:
        return None

    def note(self, message: str, **details: Any) -> None:
        facts = ", ".join(f"{key}={value}" for key, value in details.items())
        self.bars.console.print(escape(f"{self.name}: {message}" + (f" ({facts})" if facts else "")))


class Bars:
    """Hands out one bar per step; `with Bars(console) as bars: run_local(..., progress_of=bars.step)`."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    @contextmanager
    def step(self, step: PlannedStep) -> Iterator[StageProgress]:
        """The bar of one step."""
        started = time.monotonic()
        task = self._progress.add_task(step.name, total=None, unit="", detail="")
        yield ConsoleProgress(self._progress, task, step.name)
        total = self._progress.tasks[task].total or 1
        self._progress.update(task, completed=total, total=total)
        if not self._progress.console.is_terminal:
            self._progress.console.print(f"{step.name}: done in {time.monotonic() - started:.1f} s")


def report_view(report: Mapping[str, Any]) -> Group:
    """The evaluation report of a job: bits per byte of every model per domain, and the verdicts."""
    sections = {**report["domains"], "overall": report["overall"]}
    table = Table(title="Held-out documents, bits per byte (lower is better)")
    table.add_column("model")
    for name, section in sections.items():
        table.add_column(f"{name} ({section['documents']} documents)", justify="right")
    trained = [name for name in ("control", "fused") if name in report["overall"]["models"]]
    sources = [name for name in report["overall"]["models"] if name not in {"target", *trained}]
    for model in ["target", *sources, *trained]:
        figures = (section["models"][model]["bits_per_byte"] for section in sections.values())
        table.add_row(model, *("-" if value is None else f"{value:.4f}" for value in figures))
    verdicts = [
        escape(f"{name}: {comparison['sentence']}")
        for name, section in sections.items()
        for comparison in section["comparisons"]
    ]
    return Group(table, *verdicts)
