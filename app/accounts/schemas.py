"""Projects and API keys as the API shows them."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.accounts.scopes import Scope
from app.db.base import unix_seconds
from app.db.models import ApiKey, Project
from app.quotas.enforcement import quotas_of
from app.quotas.limits import UNLIMITED, Quotas

SECONDS_PER_DAY = 86_400


class CreateApiKey(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"example": {"name": "nightly", "scopes": ["jobs:read", "artifacts:read"]}},
    )

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
    scopes: Annotated[list[Scope], Field(min_length=1)] = [Scope.READ, Scope.WRITE]
    expires_in_seconds: Annotated[int, Field(ge=60, le=3650 * SECONDS_PER_DAY)] | None = None
    """The key stops working after this time; never when not given."""


class RotateApiKey(BaseModel):
    """How a key shall be replaced."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"example": {"overlap_seconds": 3600}},
    )

    overlap_seconds: Annotated[int, Field(ge=60, le=30 * SECONDS_PER_DAY)] = SECONDS_PER_DAY
    """How long the old key works beside the new one."""


class ApiKeyObject(BaseModel):
    """A key without its secret."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    prefix: str
    """How the secret begins."""
    scopes: list[Scope]
    created_at: int
    expires_at: int | None
    last_used_at: int | None
    """To the minute."""
    created_by: str | None
    """The key with which it was made."""
    replaced_by_id: str | None
    """The key that takes its place."""

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        return cls(
            id=key.id,
            name=key.name,
            prefix=key.prefix,
            scopes=[Scope(scope) for scope in key.scopes],
            created_at=unix_seconds(key.created_at),
            expires_at=_seconds(key.expires_at),
            last_used_at=_seconds(key.last_used_at),
            created_by=key.created_by,
            replaced_by_id=key.replaced_by_id,
        )


class CreatedApiKey(ApiKeyObject):
    """A new key."""

    secret: str
    """The key itself. It is shown now and never again."""


class DeletedApiKey(BaseModel):
    """A key that no longer works."""

    id: str
    object: Literal["api_key.deleted"] = "api_key.deleted"
    deleted: Literal[True] = True


class NameProject(BaseModel):
    """How a project is called."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    name: Annotated[str, Field(min_length=1, max_length=100)]
    """No two projects have the same."""


class CreateProject(NameProject):
    """A project to be made."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "lab", "quotas": {"running_jobs": 2}}})

    quotas: Quotas = UNLIMITED
    """Limits other than those that the service gives to new projects."""


class ChangeProject(BaseModel):
    """What shall change of a project (JSON merge patch); what is left out stays."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    name: Annotated[str, Field(min_length=1, max_length=100)] = ""
    """No two projects have the same."""
    quotas: Quotas = UNLIMITED
    """Limits to be changed; null takes one away."""


class ProjectObject(BaseModel):
    """A tenant."""

    id: str
    object: Literal["project"] = "project"
    name: str
    created_at: int
    quotas: Quotas

    @classmethod
    def of(cls, project: Project) -> Self:
        return cls(
            id=project.id,
            name=project.name,
            created_at=unix_seconds(project.created_at),
            quotas=quotas_of(project),
        )


class DeletedProject(BaseModel):
    """A project that is gone."""

    id: str
    object: Literal["project.deleted"] = "project.deleted"
    deleted: Literal[True] = True


class Me(BaseModel):
    """Who asks, as the service sees it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    object: Literal["me"] = "me"
    key_id: str
    scopes: list[Scope]
    project: ProjectObject
    """Whose things the request would see."""


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else unix_seconds(moment)
