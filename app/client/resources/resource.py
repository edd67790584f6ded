"""What every answer of the service has in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Resource(BaseModel):
    """Read-only, and open to fields this release does not know."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def to_json(self) -> dict[str, Any]:
        """Exactly what the service sent."""
        return self.model_dump(mode="json", exclude_unset=True)
