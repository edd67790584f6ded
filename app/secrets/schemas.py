"""Secrets as the API shows them: without their value."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from app.db.base import unix_seconds
from app.db.models import Secret
from fusion.spec import SECRET_NAME

VALUE_PATTERN = r"^[!#-\[\]-~]*$"
"""Printable ASCII without spaces, quotes and backslashes: it looks the same in a header, in JSON and in a
log, so that scrubbing finds it everywhere."""


class CreateSecret(BaseModel):
    """A secret to be stored."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        json_schema_extra={"examples": [{"name": "hub-token", "value": "hf_xxxxxxxxxxxxxxxxxxxx"}]},
    )

    name: Annotated[str, Field(pattern=SECRET_NAME)]
    """What specs call it; unique in the project."""
    value: Annotated[SecretStr, Field(min_length=8, max_length=1000)]
    """Printable ASCII without spaces, quotes and backslashes. It is never shown again."""


class SecretObject(BaseModel):
    """A secret without its value."""

    id: str
    object: Literal["secret"] = "secret"
    name: str
    created_at: int
    created_by: str | None
    """The key with which it was stored."""

    @classmethod
    def of(cls, secret: Secret) -> Self:
        return cls(
            id=secret.id,
            name=secret.name,
            created_at=unix_seconds(secret.created_at),
            created_by=secret.created_by,
        )


class DeletedSecret(BaseModel):
    """A secret that is gone."""

    id: str
    object: Literal["secret.deleted"] = "secret.deleted"
    deleted: Literal[True] = True
