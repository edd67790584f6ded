"""Jobs, their steps and attempts, and what they are expected to take."""

from typing import Literal

from app.client.resources.resource import Resource

JobStatus = Literal[
    "validating", "queued", "running", "pausing", "paused", "cancelling", "succeeded", "failed", "cancelled"
]
TERMINAL_STATUSES: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})


class Progress(Resource):
    """How far a job or a step is.

    `done`, `total`, `unit` and `tokens_done` are those of the step; `percent`, `eta_seconds` and
    `estimated_finish_at` are the job's or the step's. The last two are None while nobody can tell.
    """

    stage: str | None = None
    percent: float = 0.0
    done: float | None = None
    total: float | None = None
    unit: str | None = None
    tokens_done: int | None = None
    eta_seconds: float | None = None
    estimated_finish_at: int | None = None


class JobError(Resource):
    """Why a job or a step failed."""

    code: str
    category: str
    message: str
    hint: str | None = None
    retryable: bool = False
    log_tail: list[str] = []


class Job(Resource):
    """`version` is the number of its last event."""

    id: str
    version: int = 0
    name: str
    status: str
    status_reason: str | None = None
    queue_position: int | None = None
    progress: Progress | None = None
    error: JobError | None = None
    model_id: str | None = None
    priority: int = 0
    cloned_from_id: str | None = None
    created_at: int
    started_at: int | None = None
    finished_at: int | None = None

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL_STATUSES


class Step(Resource):
    id: str
    name: str
    stage: str
    subject: str | None = None
    status: str
    attempt: int = 0
    progress: Progress | None = None
    error: JobError | None = None
    expected_seconds: int | None = None


class Attempt(Resource):
    """One try at a step."""

    id: str
    step_id: str
    step: str
    number: int
    worker_id: str
    outcome: str
    reason: str | None = None
    error: JobError | None = None
    started_at: int
    ended_at: int | None = None


class Figure(Resource):
    """A number between `low` and `high`, what stands behind it, and what it came to; None for unknown."""

    value: float | None
    low: float | None
    high: float | None
    unit: str
    basis: str
    why: str
    actual: float | None = None


class Estimate(Resource):
    """What a job is expected to take; `steps`: hours by name of the step."""

    tokens: Figure
    hours: Figure
    host_memory: Figure
    device_memory: Figure
    disk: Figure
    stored: Figure
    steps: dict[str, Figure] = {}
    warnings: list[str] = []

    @property
    def figures(self) -> dict[str, Figure]:
        """Those of the whole job, by name."""
        names = ("tokens", "hours", "host_memory", "device_memory", "disk", "stored")
        return {name: getattr(self, name) for name in names}
