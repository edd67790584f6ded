"""When a job will be done: what runs at its own rate, what is to come by what such steps took. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.db.models import Step
from app.jobs.lifecycle import UNFINISHED_STEPS, StepStatus
from app.jobs.progress import step_progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Remaining:
    """A step that is not done: seconds that it will still take, and the steps that it waits for."""

    name: str
    seconds: float
    needs: frozenset[str]
    is_running: bool


def seconds_left(
    steps: Sequence[Step],
    *,
    needs: Mapping[str, Sequence[str]],
    expected: Mapping[str, float],
    attempt_started_at: Mapping[str, datetime],
    now: datetime,
) -> float | None:
    """Seconds until every step is done; None while nobody can tell of one of them.

    As many steps at a time as run now, at least one: how many workers will be free is not known.

    Args:
        needs, expected: names of needed steps and seconds in all, by the step's name.
        attempt_started_at: by step id, of those that run.
    """
    unfinished = [step for step in steps if step.status in UNFINISHED_STEPS]
    remaining = []
    for step in unfinished:
        seconds = _seconds_of(
            step, expected=expected.get(step.name), started_at=attempt_started_at.get(step.id), now=now
        )
        if seconds is None:
            return None
        open_needs = {name for name in needs.get(step.name, ()) if name in {one.name for one in unfinished}}
        is_running = step.status == StepStatus.RUNNING
        remaining.append(
            Remaining(name=step.name, seconds=seconds, needs=frozenset(open_needs), is_running=is_running)
        )
    return simulate(remaining) if remaining else None


def simulate(steps: Sequence[Remaining]) -> float:
    """Seconds until all are done, with as many at a time as run at first, each as soon as it can start."""
    num_slots = max(1, sum(step.is_running for step in steps))
    running = {step.name: step.seconds for step in steps if step.is_running}
    waiting = [step for step in steps if not step.is_running]
    done: set[str] = set()
    elapsed = 0.0
    while running or waiting:
        ready = [step for step in waiting if step.needs <= done]
        for step in ready[: num_slots - len(running)]:
            running[step.name] = step.seconds
            waiting.remove(step)
        assert running, "needs have no cycle, so something can always start"
        name = min(running, key=lambda name: running[name])
        passed = running.pop(name)
        elapsed += passed
        running = {other: seconds - passed for other, seconds in running.items()}
        done.add(name)
    return elapsed


def _seconds_of(
    step: Step, *, expected: float | None, started_at: datetime | None, now: datetime
) -> float | None:
    if step.status != StepStatus.RUNNING:
        return expected
    own = step_progress(step).eta_seconds
    if own is not None and step.progress_at is not None:
        return max(0.0, own - (now - step.progress_at).total_seconds())
    if expected is None or started_at is None:
        return None
    left = expected - (now - started_at).total_seconds()
    # Longer than such steps take, and it says nothing of how far it is.
    return left if left > 0 else None
