"""Projects, their keys and secrets, what they use, and who asked for which change."""

from app.client.resources.resource import Resource


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
