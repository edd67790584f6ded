"""What the sections of a spec are made of: their base class, and the types that several of them use."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
LocalPath = Annotated[str, Field(min_length=1, max_length=4096)]
FieldName = Annotated[str, Field(min_length=1, max_length=200)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class SpecModel(BaseModel):
    """Strict (no silent casts), closed (unknown fields are errors) and immutable."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def exactly_one_of(*choices: Sequence[str]) -> dict[str, Any]:
    """For the JSON Schema: exactly one of the groups of fields is given; nulls count as not given."""
    every = {name for names in choices for name in names}
    return {
        "oneOf": [
            {
                "required": list(names),
                "properties": {name: {"not": {"type": "null"}} for name in names}
                | {name: {"type": "null"} for name in sorted(every - set(names))},
            }
            for names in choices
        ]
    }
