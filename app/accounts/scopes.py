"""What an API key may do. Pure."""

from collections.abc import Collection
from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    """A right that a key carries. `app.accounts.access` says which route needs which."""

    JOBS_READ = "jobs:read"
    """Jobs, their steps, events, curves and logs; checking a spec."""
    JOBS_WRITE = "jobs:write"
    """Submit, clone, cancel, pause, resume, retry, change and remove jobs."""
    FILES_READ = "files:read"
    FILES_WRITE = "files:write"
    MODELS_READ = "models:read"
    MODELS_WRITE = "models:write"
    """Register, publish and remove models."""
    ARTIFACTS_READ = "artifacts:read"
    """What jobs made, and its bytes."""
    ARTIFACTS_WRITE = "artifacts:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    SECRETS_READ = "secrets:read"
    """Names of secrets; nobody reads their values."""
    SECRETS_WRITE = "secrets:write"

    READ = "read"
    """Every scope that ends in `:read`."""
    WRITE = "write"
    """Every scope that ends in `:write`."""
    ADMIN = "admin"
    """Those two, and the project itself: its keys, quotas and audit events."""
    OPERATOR = "operator"
    """The service: projects and their quotas, and acting for any project."""


ALL_SCOPES: Final = (Scope.READ, Scope.WRITE, Scope.ADMIN, Scope.OPERATOR)


def covers(granted: Collection[Scope], needed: Scope) -> bool:
    """Whether a key with these scopes may do what `needed` names."""
    if needed in granted:
        return True
    if needed is Scope.OPERATOR:
        return False
    if Scope.ADMIN in granted:
        return True
    bundle = needed.value.rpartition(":")[2]
    return bundle != needed.value and Scope(bundle) in granted
