"""Watches over a running stage until it ends or has to be stopped, and says how it ended."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from fusion.errors import ErrorDict, FusionError, InfrastructureError, InternalError, error_from_dict
from workers.child_process import ChildProcess, Event
from workers.progress import ProgressRecorder

LOOK_SECONDS = 0.25
NUM_LOG_LINES = 12
_MAX_LOG_TAIL_BYTES = 4000
_CRASH_SIGNALS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE}


class Stop(StrEnum):
    """Why a stage is stopped before its end."""

    CANCEL = "cancel"
    PAUSE = "pause"
    DRAIN = "drain"
    LOST = "lost"


@dataclass(frozen=True, kw_only=True, slots=True)
class Succeeded:
    figures: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    error: ErrorDict


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopped:
    stop: Stop


Outcome = Succeeded | Failed | Stopped


def supervise(
    child: ChildProcess, recorder: ProgressRecorder, *, wanted: Callable[[], Stop | None], log: Path
) -> Outcome:
    """Pass on what the stage says; end it when `wanted` says so. Nothing of it runs afterwards."""
    last: Event | None = None
    while not child.has_exited:
        last = _take(child.wait_for_events(LOOK_SECONDS), recorder) or last
        recorder.flush()
        stop = wanted()
        if stop is not None:
            child.terminate()
            # What it finished while it was ending still counts.
            _take(child.read_events(), recorder)
            return Stopped(stop=stop)
    status = child.kill()
    last = _take(child.read_events(), recorder) or last
    return _outcome(last, status=status, log=log)


def log_tail(log: Path) -> list[str]:
    """The last lines of an attempt's log."""
    if not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _MAX_LOG_TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return [line for line in lines if line.strip()][-NUM_LOG_LINES:]


def _take(events: list[Event], recorder: ProgressRecorder) -> Event | None:
    """Record events; return the last one that ends the stage, if there is one."""
    last = None
    for event in events:
        if event["type"] in ("report", "error"):
            last = event
        else:
            recorder.receive(event)
    return last


def _outcome(last: Event | None, *, status: int, log: Path) -> Outcome:
    if last is not None and last["type"] == "report" and status == 0:
        return Succeeded(figures=last.get("figures") or {})
    if last is not None and last["type"] == "error" and status == 1:
        return Failed(error=error_from_dict(last).to_dict())
    return Failed(error=_crash(status, log=log).to_dict())


def _crash(status: int, *, log: Path) -> FusionError:
    """The error of a stage that ended without saying how."""
    tail = "\n".join(log_tail(log))
    said = f"\nlast lines of its log:\n{tail}" if tail else "; its log is empty"
    if status >= 0:
        return InternalError(
            f"the stage ended with exit code {status} and no report{said}",
            code="stage_ended_silently",
            hint="the log of the attempt has the details",
        )
    name = signal.Signals(-status).name if -status in signal.Signals.__members__.values() else str(-status)
    if -status == signal.SIGKILL:
        return InfrastructureError(
            f"the stage was killed ({name}), most often because the machine ran out of memory{said}",
            code="stage_killed",
            hint="lower training.max_tokens_per_micro_batch or strategy.extraction.max_tokens_per_batch, "
            "or use a machine with more memory",
        )
    code = "stage_crashed" if -status in _CRASH_SIGNALS else "stage_killed"
    return InfrastructureError(
        f"the stage was ended by {name}{said}", code=code, hint="see the log of the attempt"
    )
