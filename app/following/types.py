"""Which types of events a reader wants. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from sqlalchemy import ColumnElement, or_

from app.db.models import Event
from app.errors import FieldProblem, Unprocessable

JOB_PROGRESS: Final = "job.progress"
JOB_METRICS: Final = "job.metrics"
JOB_END: Final = "job.end"
_MAX_TYPES: Final = 50
_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.")


@dataclass(frozen=True, slots=True)
class TypeFilter:
    """Exact names, and beginnings (`step_*`). Without any of either, everything is wanted."""

    names: frozenset[str] = frozenset()
    beginnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Sequence[str]) -> Self:
        """From values of a parameter that may be repeated, and may hold several types with commas.

        Raises:
            Unprocessable: something that cannot be a type.
        """
        words = [word for value in given for word in value.split(",") if word]
        for word in words:
            if not set(word.removesuffix("*")) <= _LETTERS or len(word) > 40 or len(words) > _MAX_TYPES:
                problem = FieldProblem(
                    pointer="query:types", code="type_invalid", detail=f"{word[:60]!r} is no type of event"
                )
                raise Unprocessable(problem.detail, code="type_invalid", errors=[problem])
        return cls(
            names=frozenset(word for word in words if not word.endswith("*")),
            beginnings=tuple(word[:-1] for word in words if word.endswith("*")),
        )

    def wants(self, event_type: str) -> bool:
        """Whether an event of this type is to be shown."""
        if not self.names and not self.beginnings:
            return True
        return event_type in self.names or event_type.startswith(self.beginnings)

    def condition(self) -> ColumnElement[bool] | None:
        """The same for a query on `Event`; None when everything is wanted."""
        if not self.names and not self.beginnings:
            return None
        begins = [Event.type.startswith(beginning, autoescape=True) for beginning in self.beginnings]
        return or_(Event.type.in_(self.names), *begins)
