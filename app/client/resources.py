"""What the service's answers look like to a client.

Unknown fields are kept (`model_extra`), so an older client reads a newer service. Times are Unix seconds.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

JobStatus = Literal[
    "validating", "queued", "running", "pausing", "paused", "cancelling", "succeeded", "failed", "cancelled"
]
TERMINAL_STATUSES: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})


class Resource(BaseModel):
    """Read-only, and open to fields this release does not know."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def to_json(self) -> dict[str, Any]:
        """Exactly what the service sent."""
        return self.model_dump(mode="json", exclude_unset=True)


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


class Event(Resource):
    """`seq` numbers the events of a job from 1."""

    id: str
    seq: int
    type: str
    message: str | None = None
    created_at: int


class MetricPoint(Resource):
    """Numbers of one optimiser step of one training; None for one that was not finite.

    `seq` is the order of writing; a point that a resumed attempt repeats comes again under a new number.
    """

    seq: int
    step_name: str
    step: int
    attempt: int
    values: dict[str, float | None]


class Curve(Resource):
    """One training curve as columns. `best` is the smallest value."""

    x: list[float | None]
    y: list[float | None]
    min: list[float | None]
    max: list[float | None]
    last: float | None = None
    best: float | None = None
    n: int
    downsampled: bool = False


class Curves(Resource):
    """Training curves of a job, by `STEP/VALUE`."""

    x: str
    series: dict[str, Curve]
    next_since: int


class LogLine(Resource):
    """A line that an attempt wrote. Lines with one `seq` were stored together."""

    seq: int
    step_name: str
    attempt: int
    level: str
    text: str
    created_at: int


class File(Resource):
    id: str
    filename: str
    bytes: int
    sha256: str
    status: str
    status_details: str | None = None


class Model(Resource):
    """`kind`: registered, fused or promoted; None from an earlier service."""

    id: str
    name: str
    kind: str | None = None
    created: int | None = None
    job_id: str | None = None
    artifact_id: str | None = None
    checkpoint_id: str | None = None
    hub_id: str | None = None


class Checkpoint(Resource):
    """A training after `step` of its optimiser steps, as it is stored."""

    id: str
    job_id: str
    step_name: str
    step: int
    metrics: dict[str, float | None]
    num_bytes: int
    is_best: bool
    is_last: bool
    is_promotable: bool
    model_id: str | None = None
    created_at: int


class ArtifactFile(Resource):
    path: str
    size: int
    sha256: str


class Artifact(Resource):
    id: str
    kind: str
    role: str | None = None
    digest: str | None = None
    num_bytes: int = 0
    files: list[ArtifactFile] = []


class ApiKey(Resource):
    """`secret` is only there in the answer to its creation."""

    id: str
    name: str | None = None
    prefix: str | None = None
    scopes: list[str] = []
    expires_at: int | None = None
    last_used_at: int | None = None
    replaced_by_id: str | None = None
    secret: str | None = None


class Secret(Resource):
    """Without its value, which nobody reads back."""

    id: str
    name: str
    created_at: int
    created_by: str | None = None


class Project(Resource):
    """`quotas`: limits by name; None is without limit."""

    id: str
    name: str
    created_at: int
    quotas: dict[str, float | None] = {}


class UsedOf(Resource):
    """What is used of one limit; `limit` None is without."""

    used: float
    limit: float | None = None


class MonthOfCompute(Resource):
    """Seconds of the attempts that began in a month (UTC)."""

    month: str
    gpu_seconds: float = 0.0
    cpu_seconds: float = 0.0
    num_attempts: int = 0


class Usage(Resource):
    project_id: str
    quotas: dict[str, UsedOf]
    stored_bytes_by_kind: dict[str, int] = {}
    compute_by_month: list[MonthOfCompute] = []


class Me(Resource):
    key_id: str
    scopes: list[str]
    project: Project


class AuditEvent(Resource):
    """A request that asked for a change. `status` and `code` are those of a refusal or failure."""

    id: str
    created_at: int
    key_id: str
    address: str | None = None
    request_id: str | None = None
    action: str
    object_id: str | None = None
    created_id: str | None = None
    outcome: str
    status: int | None = None
    code: str | None = None


class WebhookEndpoint(Resource):
    """`secret` is only there in the answer to its creation and to a rotation."""

    id: str
    url: str
    description: str = ""
    event_types: list[str] = []
    enabled: bool = True
    disabled_reason: str | None = None
    failing_since: int | None = None
    secret: str | None = None


class WebhookTry(Resource):
    number: int
    started_at: int
    duration_ms: int
    status: int | None = None
    error: str | None = None
    message: str | None = None


class WebhookDelivery(Resource):
    """One event for one endpoint."""

    id: str
    endpoint_id: str
    event_id: str
    type: str
    status: str
    next_try_at: int | None = None
    created_at: int
    tries: list[WebhookTry] = []


class Recipe(Resource):
    """A spec with holes. `parameters` is the JSON Schema of what fills them."""

    id: str
    name: str
    version: int
    title: str
    description: str = ""
    parameters: dict[str, Any] = {}
    spec: dict[str, Any] = {}
