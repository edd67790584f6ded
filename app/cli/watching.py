"""How a running job looks: live bars on a terminal, plain lines anywhere else."""

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from app.cli.output import harmless, print_line, show_duration, terminal
from app.client import Job, JobUpdate, Step

LINE_EVERY_SECONDS = 10.0
NUM_EVENTS_SHOWN = 5
_STYLE_OF_STATUS = {
    "running": "cyan",
    "succeeded": "green",
    "failed": "bold red",
    "cancelled": "yellow",
    "cancelling": "yellow",
}


class JobView(Protocol):
    """Shows one update after another."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, update: JobUpdate) -> None: ...


class LossLog:
    """The last loss of each training, by name of its step."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def take(self, update: JobUpdate) -> None:
        for point in update.metrics:
            loss = point.values.get("loss")
            if loss is not None:
                self._last[point.step_name] = f"step {point.step}, loss {loss:.4f}"

    def of(self, step: Step) -> str:
        return self._last.get(step.name, "")


class LiveView:
    """A table that is redrawn in place."""

    def __init__(self) -> None:
        self._live = Live(console=terminal(), refresh_per_second=4)
        self._losses = LossLog()
        self._messages: list[str] = []

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, update: JobUpdate) -> None:
        self._losses.take(update)
        self._messages += [event.message or event.type for event in update.events]
        del self._messages[:-NUM_EVENTS_SHOWN]
        self._live.update(self._picture(update), refresh=True)

    def _picture(self, update: JobUpdate) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for step in update.steps:
            status = Text(step.status, style=_STYLE_OF_STATUS.get(step.status, "dim"))
            bar = ProgressBar(total=100, completed=step_percent(step), width=30)
            table.add_row(Text(step.name), status, bar, Text(step_count(step)), Text(self._losses.of(step)))
        history = Text(harmless("\n".join(self._messages)), style="dim")
        return Group(Text(harmless(headline(update.job)), style="bold"), table, history)


class LineView:
    """A line for each thing that happens, and for progress now and then."""

    def __init__(self) -> None:
        self._losses = LossLog()
        self._status = ""
        self._ended: set[str] = set()
        self._shown_at: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, update: JobUpdate) -> None:
        self._losses.take(update)
        for event in update.events:
            print_line(event.message or event.type)
        for step in update.steps:
            if step.status == "running" and self._is_due(step):
                facts = (step.name, step_count(step), self._losses.of(step))
                print_line("  ".join(fact for fact in facts if fact))
            self._show_last_loss(step)
        if update.job.status != self._status:
            self._status = update.job.status
            print_line(headline(update.job))

    def _show_last_loss(self, step: Step) -> None:
        """Once when a training ends; once more when it ends after a retry."""
        if step.status not in ("succeeded", "failed"):
            self._ended.discard(step.id)
        elif step.id not in self._ended:
            self._ended.add(step.id)
            if loss := self._losses.of(step):
                print_line(f"{step.name}  {loss}")

    def _is_due(self, step: Step) -> bool:
        now = time.monotonic()
        if now - self._shown_at.setdefault(step.id, now) < LINE_EVERY_SECONDS:
            return False
        self._shown_at[step.id] = now
        return True


def headline(job: Job) -> str:
    """One line about the whole job."""
    parts = [job.id, job.name, job.status]
    if job.status_reason and not job.is_terminal:
        parts.append(f"({waiting(job)})")
    if job.progress is not None and not job.is_terminal:
        parts.append(f"{job.progress.percent:.0f}%")
        if job.progress.eta_seconds is not None:
            parts.append(f"about {show_duration(job.progress.eta_seconds)} left")
    return "  ".join(parts)


def waiting(job: Job) -> str:
    """Why the job is where it is, and its place in the queue, where it has one."""
    reason = (job.status_reason or "").replace("_", " ")
    return reason if job.queue_position is None else f"{reason}, place {job.queue_position}".lstrip(", ")


def step_percent(step: Step) -> float:
    """How far a step is, 0 to 100."""
    if step.status == "succeeded":
        return 100.0
    return step.progress.percent if step.progress is not None else 0.0


def step_count(step: Step) -> str:
    """`120 of 400 windows`, where the step counts something."""
    progress = step.progress
    if progress is None or progress.done is None or progress.total is None:
        return ""
    return f"{progress.done:g} of {progress.total:g} {progress.unit or ''}".rstrip()
