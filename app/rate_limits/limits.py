"""How many requests a minute are allowed. Pure."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class RateLimits(BaseModel):
    """Requests per minute; null is without limit."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    key: Annotated[int, Field(ge=1)] | None = 6_000
    """Of one API key."""
    project: Annotated[int, Field(ge=1)] | None = 18_000
    """Of all keys of a project together."""
    address: Annotated[int, Field(ge=1)] | None = 600
    """From one address without a key that works; of IPv6 from one network of 64 bits."""
