"""The limits of a project. Pure."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_STORED_BYTES = 10**18


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number, got a boolean")
    return value


_NO_BOOLEAN = BeforeValidator(_number)


class Quotas(BaseModel):
    """How much a project may use; null is without limit."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    queued_jobs: Annotated[int, Field(ge=0, le=1_000_000), _NO_BOOLEAN] | None = None
    """Jobs that wait for their first step, or are paused. One more is refused."""
    running_jobs: Annotated[int, Field(ge=0, le=1_000_000), _NO_BOOLEAN] | None = None
    """Jobs of which a step runs at the same moment. The others wait."""
    stored_bytes: Annotated[int, Field(ge=0, le=MAX_STORED_BYTES), _NO_BOOLEAN] | None = None
    """Files, uploads and artifacts together. Beyond it nothing more is stored or submitted, and no
    step starts."""
    gpu_hours_per_month: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False), _NO_BOOLEAN] | None = None
    """Of attempts that began in a calendar month (UTC). Beyond it no step that needs a GPU starts."""

    def columns(self) -> dict[str, float | None]:
        """Those that were given, by their column in the table of projects."""
        return {f"max_{name}": value for name, value in self.model_dump(exclude_unset=True).items()}


UNLIMITED = Quotas()
