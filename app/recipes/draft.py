"""A spec in the making, which knows from which field of the request each part of it comes. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from app.errors import FieldProblem, Unprocessable
from app.jobs.spec_request import spec_of_data
from app.recipes.pointers import with_value_at
from fusion.spec import FusionSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecDraft:
    """Data of a spec, and where a user has to look when a part of it is wrong.

    base: pointer to what the spec as a whole comes from. is_in_body: the spec stands there itself, so that
    its own pointers go on from `base`. origins: pointers into the request by pointers into the spec.
    """

    data: dict[str, Any]
    base: str
    is_in_body: bool = False
    origins: Mapping[str, str] = field(default_factory=dict)

    def with_value(self, at: str, value: Any, *, origin: str) -> Self:
        """A copy with a value of the request's in its place."""
        return type(self)(
            data=with_value_at(self.data, at, value),
            base=self.base,
            is_in_body=self.is_in_body,
            origins={**self.origins, at: origin},
        )

    def spec(self) -> FusionSpec:
        """The spec.

        Raises:
            Unprocessable: with one entry per wrong field, which points into the request.
        """
        try:
            return spec_of_data(self.data)
        except Unprocessable as error:
            raise self.blamed(error) from error

    def blamed(self, error: Unprocessable) -> Unprocessable:
        """The same refusal of the spec, with pointers into the request."""
        problems = [self._blamed(problem) for problem in error.errors]
        detail = "; ".join(f"{problem.pointer}: {problem.detail}" for problem in problems) or error.detail
        return Unprocessable(detail, code=error.code, hint=error.hint, errors=problems)

    def _blamed(self, problem: FieldProblem) -> FieldProblem:
        named = [at for at in self.origins if f"{problem.pointer}/".startswith(f"{at}/")]
        if named:
            # The deepest place, and of that the field that was set.
            return problem.model_copy(update={"pointer": self.origins[max(named, key=len)]})
        if self.is_in_body:
            return problem.model_copy(update={"pointer": self.base + problem.pointer})
        return FieldProblem(
            pointer=self.base, code=problem.code, detail=f"{problem.pointer or 'spec'}: {problem.detail}"
        )
