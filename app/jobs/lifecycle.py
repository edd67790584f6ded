"""The states of steps and jobs, and the moves between them. Pure: no database.

pending ──> queued ──> running ──> succeeded
   │          │  ^        ├──────> failed ───┐
   │          │  └────────┤                  │ retry by the user
   v          v           v                  │
cancelled <───────────────┘                  │
   └──> pending (retry)        queued <──────┘
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final


class StepStatus(StrEnum):
    PENDING = "pending"
    """Waits for the steps that it needs."""
    QUEUED = "queued"
    """Waits for a worker."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobStatus(StrEnum):
    """`validating` is reserved for checks that outlast a request; today a job is checked before it exists."""

    VALIDATING = "validating"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Desired(StrEnum):
    """What the user asked of a job."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


class Action(StrEnum):
    """What a user can ask of a job that exists."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    PRIORITISE = "prioritise"
    DELETE = "delete"


class Instruction(StrEnum):
    """What a heartbeat brings back to the worker."""

    CONTINUE = "continue"
    CANCEL = "cancel"
    """Stop the attempt, then `confirm_cancelled`."""
    PAUSE = "pause"
    """Stop the attempt, then `release_step`."""
    LOST = "lost"
    """The step belongs to somebody else: stop the attempt and write nothing."""


class AttemptOutcome(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    """The lease ran out, or the worker or the stage's process is gone."""
    RELEASED = "released"
    """Given back by its worker: a drain or a pause. Costs nothing."""


class CancelReason(StrEnum):
    """Why a step was cancelled."""

    USER = "cancelled_by_user"
    JOB_FAILED = "job_failed"


MOVES: Final[Mapping[StepStatus, frozenset[StepStatus]]] = {
    StepStatus.PENDING: frozenset({StepStatus.QUEUED, StepStatus.CANCELLED}),
    StepStatus.QUEUED: frozenset({StepStatus.RUNNING, StepStatus.CANCELLED}),
    StepStatus.RUNNING: frozenset(
        {StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.CANCELLED, StepStatus.QUEUED}
    ),
    StepStatus.SUCCEEDED: frozenset(),
    StepStatus.FAILED: frozenset({StepStatus.QUEUED}),
    StepStatus.CANCELLED: frozenset({StepStatus.PENDING}),
}

UNFINISHED_STEPS: Final = (StepStatus.PENDING, StepStatus.QUEUED, StepStatus.RUNNING)
FINISHED_JOBS: Final = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})


def is_allowed(source: StepStatus, target: StepStatus) -> bool:
    """Whether a step may move from `source` to `target`."""
    return target in MOVES[source]


def why_refused(action: Action, status: JobStatus) -> tuple[str, str] | None:
    """Code and reason why a job in `status` cannot do what its user asks; None when it can.

    Asking for what is already so is allowed and changes nothing.
    """
    if action is Action.CANCEL:
        return None
    if action is Action.RETRY:
        if status is JobStatus.FAILED:
            return None
        return "job_not_failed", f"only a failed job can be retried; this one is {status}"
    if action is Action.DELETE:
        if status in FINISHED_JOBS:
            return None
        return "job_not_finished", f"only a finished job can be deleted; this one is {status}"
    if status in FINISHED_JOBS:
        return "job_finished", f"the job is {status}, and a finished job does not change"
    if status is JobStatus.CANCELLING:
        return "job_cancelling", "the job is being cancelled, and a cancel is not taken back"
    return None


def job_status(steps: Collection[StepStatus], desired: Desired) -> JobStatus:
    """The status of a job, from the statuses of its steps and from what its user asked for.

    A job whose step failed stays in a running status until its other running steps have stopped: while
    something of it works it is not over.
    """
    present = set(steps)
    if present == {StepStatus.SUCCEEDED}:
        return JobStatus.SUCCEEDED
    if StepStatus.RUNNING in present:
        return _WHILE_RUNNING[desired]
    if StepStatus.FAILED in present:
        return JobStatus.FAILED
    if StepStatus.CANCELLED in present:
        return JobStatus.CANCELLED
    if desired is Desired.CANCEL:
        return JobStatus.CANCELLING
    if desired is Desired.PAUSE:
        return JobStatus.PAUSED
    return JobStatus.RUNNING if StepStatus.SUCCEEDED in present else JobStatus.QUEUED


_WHILE_RUNNING: Final[Mapping[Desired, JobStatus]] = {
    Desired.RUN: JobStatus.RUNNING,
    Desired.PAUSE: JobStatus.PAUSING,
    Desired.CANCEL: JobStatus.CANCELLING,
}
