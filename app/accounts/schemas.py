"""API keys as the API shows them."""

from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.accounts.scopes import Scope
from app.db.base import unix_seconds
from app.db.models import ApiKey

SECONDS_PER_DAY = 86_400


class CreateApiKey(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    name: Annotated[str, Field(min_length=1, max_length=200)]
    scopes: Annotated[list[Scope], Field(min_length=1)] = [Scope.READ, Scope.WRITE]
    expires_in_seconds: Annotated[int, Field(ge=60, le=3650 * SECONDS_PER_DAY)] | None = None
    """The key stops working after this time; never when not given."""


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


def expiry(expires_in_seconds: int | None, *, now: datetime | None = None) -> datetime | None:
    """The moment a key stops working."""
    if expires_in_seconds is None:
        return None
    return datetime.fromtimestamp((now or datetime.now(UTC)).timestamp() + expires_in_seconds, UTC)


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else unix_seconds(moment)
