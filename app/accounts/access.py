"""Which scope a route needs: the one table. A new route is named here, or it is refused."""

from collections.abc import Mapping
from typing import Final

from app.accounts.scopes import Scope

READING_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

ANY_KEY: Final = None
"""No scope: every key that works."""

_ROOMS: Final[Mapping[str, tuple[Scope | None, Scope | None]]] = {
    # path and everything below it: (scope to read, scope to change)
    "/v1/jobs": (Scope.JOBS_READ, Scope.JOBS_WRITE),
    "/v1/fine_tuning": (Scope.JOBS_READ, Scope.JOBS_WRITE),
    "/v1/files": (Scope.FILES_READ, Scope.FILES_WRITE),
    "/v1/uploads": (Scope.FILES_READ, Scope.FILES_WRITE),
    "/v1/models": (Scope.MODELS_READ, Scope.MODELS_WRITE),
    "/v1/publications": (Scope.MODELS_READ, Scope.MODELS_WRITE),
    "/v1/checkpoints": (Scope.JOBS_READ, Scope.MODELS_WRITE),
    "/v1/artifacts": (Scope.ARTIFACTS_READ, Scope.ARTIFACTS_WRITE),
    "/v1/webhook_endpoints": (Scope.WEBHOOKS_READ, Scope.WEBHOOKS_WRITE),
    "/v1/webhook_deliveries": (Scope.WEBHOOKS_READ, Scope.WEBHOOKS_WRITE),
    "/v1/secrets": (Scope.SECRETS_READ, Scope.SECRETS_WRITE),
    "/v1/api_keys": (Scope.ADMIN, Scope.ADMIN),
    "/v1/audit_events": (Scope.ADMIN, Scope.ADMIN),
    "/v1/me": (ANY_KEY, Scope.OPERATOR),
    "/v1/projects": (ANY_KEY, Scope.OPERATOR),
    "/v1/usage": (ANY_KEY, Scope.OPERATOR),
    "/v1/recipes": (ANY_KEY, Scope.OPERATOR),
    "/v1/capabilities": (ANY_KEY, Scope.OPERATOR),
    "/v1/queues": (ANY_KEY, Scope.OPERATOR),
    "/v1/workers": (ANY_KEY, Scope.OPERATOR),
    # Counts of every project.
    "/metrics": (Scope.OPERATOR, Scope.OPERATOR),
    # The hub's protocol, at its paths.
    "/api/models": (Scope.MODELS_READ, Scope.MODELS_WRITE),
    "/api/whoami-v2": (ANY_KEY, Scope.OPERATOR),
    "/{namespace}/{repo}/resolve": (Scope.ARTIFACTS_READ, Scope.ARTIFACTS_WRITE),
}

_CHECKS: Final = frozenset(
    {("POST", "/v1/jobs/validate"), ("POST", "/v1/jobs/estimate"), ("POST", "/v1/recipes/{recipe_name}/spec")}
)
"""Requests with a body that nevertheless only read: no change, and no word in the audit log."""
_EXCEPTIONS: Final[Mapping[tuple[str, str], Scope | None]] = {
    **dict.fromkeys(_CHECKS, Scope.JOBS_READ),
    ("POST", "/v1/artifacts/{artifact_id}/download_url"): Scope.ARTIFACTS_READ,
}
"""Requests for which the method says the wrong thing about the scope."""

OPEN_PATHS: Final = frozenset(
    {
        "/livez",
        "/readyz",
        "/v1/schemas/fusion-spec",
        "/v1/downloads",
        "/openapi.json",
        "/docs",
    }
)
"""Routes that answer without a key."""


def needed_scope(method: str, path: str) -> Scope | None:
    """The scope for a route, by its path as declared (`/v1/jobs/{job_id}`).

    Raises:
        LookupError: nobody has said yet who may use the route.
    """
    if (method, path) in _EXCEPTIONS:
        return _EXCEPTIONS[method, path]
    room = path
    while room:
        if room in _ROOMS:
            reading, changing = _ROOMS[room]
            return reading if method in READING_METHODS else changing
        room = room.rpartition("/")[0]
    raise LookupError(
        f"{method} {path}: nobody has said which scope it needs; add its room to app/accounts/access.py"
    )


def is_audited(method: str, path: str) -> bool:
    """Whether a request on the route asks for a change, so that the audit log takes it down."""
    return method not in READING_METHODS and (method, path) not in _CHECKS
