"""Whether a failed or lost attempt is worth another one, and when. Pure.

Two budgets per step, both renewed by progress (a stored part) and by a retry of the user's: one for errors,
counted by category, and one for losses, where the worker or the process went away without saying why.

Batches are halved when memory ran out: an error said so, or the kernel counted the kill. A SIGKILL of unknown
origin halves them only when it comes again before any progress (a guard of the memory in user space tells
nobody): a smaller batch rounds differently, and the weights of a training would no longer be those of an
undisturbed one. What was halved stays so until a retry of the user's: what did not fit would not fit again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import SystemRandom
from typing import Any, Final

from fusion.errors import ErrorCategory, ErrorDict

MAX_ERRORS: Final[Mapping[ErrorCategory, int]] = {
    "user": 1,
    "capacity": 3,
    "infrastructure": 5,
    "internal": 5,
}
"""Errors of one category at which a step fails for good; an internal one that comes again ends it earlier."""
MAX_LOSSES: Final = 3
"""Losses at which a step counts as what kills its workers."""

_BACK_OFF_SECONDS: Final = 2.0
_MAX_BACK_OFF_SECONDS: Final = 600.0
_MAX_RETRY_AFTER_SECONDS: Final = 3600.0
"""A server that asks for more than this is asked again after this."""
_OUT_OF_MEMORY: Final = "out_of_memory"
_KILLED: Final = "stage_killed"


@dataclass(frozen=True, kw_only=True, slots=True)
class NextTry:
    """When the step is tried again, and whether with smaller batches."""

    in_seconds: float
    halve_batches: bool


def next_try(error: Mapping[str, Any], *, earlier: Sequence[Mapping[str, Any]]) -> NextTry | None:
    """What to do after an error; None when the step has failed.

    Args:
        earlier: the errors since the last progress, this one not among them.
    """
    category: ErrorCategory = error["category"]
    same = [one for one in earlier if one["category"] == category]
    if len(same) + 1 >= MAX_ERRORS[category]:
        return None
    if category == "internal" and any(_fingerprint(one) == _fingerprint(error) for one in same):
        return None
    return NextTry(
        in_seconds=max(back_off_seconds(len(same)), retry_after_seconds(error)),
        halve_batches=error["code"] == _OUT_OF_MEMORY,
    )


def next_try_after_loss(error: Mapping[str, Any], *, earlier: Sequence[Mapping[str, Any]]) -> NextTry | None:
    """What to do after a loss; None when the step has failed.

    Args:
        earlier: the losses since the last progress, this one not among them.
    """
    if len(earlier) + 1 >= MAX_LOSSES:
        return None
    # A silent worker has already cost a whole lease.
    wait = 0.0 if error["code"] == "worker_lost" else back_off_seconds(len(earlier))
    killed_again = error["code"] == _KILLED and any(one["code"] == _KILLED for one in earlier)
    return NextTry(in_seconds=wait, halve_batches=killed_again)


def back_off_seconds(num_earlier: int) -> float:
    """At least 2 s, and a random part that doubles: steps that failed together come back apart."""
    longest = min(_MAX_BACK_OFF_SECONDS, _BACK_OFF_SECONDS * 2.0**num_earlier)
    return min(_MAX_BACK_OFF_SECONDS, _BACK_OFF_SECONDS + SystemRandom().uniform(0.0, longest))


def retry_after_seconds(error: Mapping[str, Any]) -> float:
    """How long a server asked to be left alone."""
    wanted = error.get("retry_after_seconds") or 0.0
    return min(max(0.0, float(wanted)), _MAX_RETRY_AFTER_SECONDS)


def worker_lost() -> ErrorDict:
    """The loss of a worker that fell silent."""
    return ErrorDict(
        code="worker_lost",
        category="infrastructure",
        message="the worker fell silent",
        hint="look for a worker that was killed, often for its memory; then retry the job",
        pointer=None,
        retryable=True,
    )


def worker_died() -> ErrorDict:
    """The loss of a worker whose process is known to be gone."""
    return ErrorDict(
        code="worker_died",
        category="infrastructure",
        message="the worker's process ended without giving its step back",
        hint="look for what killed the worker, often its memory; then retry the job",
        pointer=None,
        retryable=True,
    )


def lost_for_good(step_name: str, *, losses: Sequence[Mapping[str, Any]]) -> ErrorDict:
    """The error of a step that lost every attempt without progress; the last one's hint is the way out."""
    codes = ", ".join(loss["code"] for loss in losses)
    last = losses[-1]
    return ErrorDict(
        code="worker_lost",
        category="infrastructure",
        message=f"{step_name}: {len(losses)} attempts in a row were lost before any progress was stored "
        f"({codes}); the last one: {last['message']}",
        hint=last.get("hint") or worker_lost()["hint"],
        pointer=None,
        retryable=True,
        log_tail=last.get("log_tail") or [],
    )


def _fingerprint(error: Mapping[str, Any]) -> tuple[str, str | None]:
    """Where in the code an internal error came from, as far as it is known."""
    return error["code"], error.get("fingerprint")
