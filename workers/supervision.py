"""Watches over a running stage until it ends or has to be stopped, and says how it ended."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from app.jobs.log_text import clean
from fusion.errors import ErrorDict, FusionError, InfrastructureError, InternalError, error_from_dict
from fusion.exhaustion import out_of_memory
from workers.child_process import ChildProcess, Event
from workers.oom_kills import count_oom_kills
from workers.progress import ProgressRecorder
from workers.silence import Silence

LOOK_SECONDS = 0.25
END_LOOK_SECONDS = 0.05
TERMINATE_SECONDS = 10.0
"""How long a stage has to end that nobody waits for any more."""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Lost:
    """The process was killed, crashed, or had to be killed because nothing came from it any more."""

    error: ErrorDict


Outcome = Succeeded | Failed | Lost | Stopped


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long a stage may be silent, and how long it may take to store what it has when it is paused."""

    stall_seconds: float
    grace_seconds: float


def supervise(
    child: ChildProcess,
    recorder: ProgressRecorder,
    *,
    wanted: Callable[[], Stop | None],
    patience: Patience,
) -> Outcome:
    """Pass on what the stage says; end it when `wanted` says so. Nothing of it runs afterwards."""
    last: Event | None = None
    num_oom_kills = count_oom_kills()
    silence = Silence(limit_seconds=patience.stall_seconds)
    while not child.has_exited:
        events = child.wait_for_events(LOOK_SECONDS)
        silence.look(heard=bool(events))
        last = _take(events, recorder) or last
        recorder.flush()
        stop = wanted()
        if stop is not None:
            _end(child, recorder, stop, wanted=wanted, grace_seconds=patience.grace_seconds)
            return Stopped(stop=stop)
        if silence.is_too_long:
            child.kill()
            return Lost(error=_stalled(patience.stall_seconds).to_dict())
    status = child.kill()
    last = _take(child.read_events(), recorder) or last
    memory_ran_out = status == -signal.SIGKILL and count_oom_kills() != num_oom_kills
    return _outcome(last, status=status, memory_ran_out=memory_ran_out)


def _end(
    child: ChildProcess,
    recorder: ProgressRecorder,
    stop: Stop,
    *,
    wanted: Callable[[], Stop | None],
    grace_seconds: float,
) -> None:
    """Ask the stage to end, and kill it when its time is over. What it finishes meanwhile still counts."""
    child.ask_to_end()
    asked_at = time.monotonic()
    patient = (Stop.PAUSE, Stop.DRAIN)
    while child.members():
        _take(child.wait_for_events(END_LOOK_SECONDS), recorder)
        in_no_hurry = stop in patient and wanted() not in (Stop.CANCEL, Stop.LOST)
        if time.monotonic() - asked_at > (grace_seconds if in_no_hurry else TERMINATE_SECONDS):
            break
    child.kill()
    _take(child.read_events(), recorder)


def log_tail(log: Path) -> list[str]:
    """The last lines of an attempt's log, without secrets."""
    if not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _MAX_LOG_TAIL_BYTES))
        lines = clean(file.read()).split("\n")
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


def _outcome(last: Event | None, *, status: int, memory_ran_out: bool) -> Outcome:
    if last is not None and last["type"] == "report" and status == 0:
        return Succeeded(figures=last.get("figures") or {})
    if last is not None and last["type"] == "error" and status == 1:
        return Failed(error=error_from_dict(last).to_dict())
    if memory_ran_out:
        return Failed(error=out_of_memory("the kernel killed the stage for its memory").to_dict())
    crash = _crash(status).to_dict()
    return Lost(error=crash) if status < 0 else Failed(error=crash)


def _stalled(limit_seconds: float) -> FusionError:
    return InfrastructureError(
        f"the stage reported nothing for {limit_seconds:.0f} s and was killed",
        code="stalled",
        hint="look at the log of the attempt; a stage that is only slow needs a higher FUSION_STALL_SECONDS",
    )


def _crash(status: int) -> FusionError:
    """The error of a stage that ended without saying how."""
    if status >= 0:
        return InternalError(
            f"the stage ended with exit code {status} and no report",
            code="stage_ended_silently",
            hint="the log of the attempt has the details",
        )
    name = signal.Signals(-status).name if -status in signal.Signals.__members__.values() else str(-status)
    if -status == signal.SIGKILL:
        return InfrastructureError(
            f"the stage was killed ({name}), and the kernel tells of no lack of memory",
            code="stage_killed",
            hint="look for who kills processes on the worker's machine; where it is a guard of its memory, "
            "lower training.max_tokens_per_micro_batch or strategy.extraction.max_tokens_per_batch",
        )
    code = "stage_crashed" if -status in _CRASH_SIGNALS else "stage_terminated"
    return InfrastructureError(f"the stage was ended by {name}", code=code, hint="see the log of the attempt")
