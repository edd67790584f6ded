"""A figure with its range and what stands behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class Basis(StrEnum):
    MEASURED = "measured"
    """Seen in this service: an uploaded file was counted, such a step was timed."""
    MODELLED = "modelled"
    """Computed from sizes that are known."""
    DEFAULT = "default"
    """Rests on an assumption, which `why` names."""


_WEAKEST_LAST = (Basis.MEASURED, Basis.MODELLED, Basis.DEFAULT)


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """`value` lies between `low` and `high`; all three are None where nobody can tell."""

    value: float | None
    low: float | None
    high: float | None
    basis: Basis
    why: str

    @classmethod
    def unknown(cls, why: str) -> Self:
        return cls(value=None, low=None, high=None, basis=Basis.DEFAULT, why=why)

    @classmethod
    def exactly(cls, value: float, *, why: str, basis: Basis = Basis.MEASURED) -> Self:
        return cls(value=value, low=value, high=value, basis=basis, why=why)

    @classmethod
    def within(cls, low: float, value: float, high: float, *, basis: Basis, why: str) -> Self:
        return cls(value=value, low=min(low, value), high=max(high, value), basis=basis, why=why)

    def times(self, other: Self) -> Self:
        """The product; it rests on the weaker of the two."""
        if self.value is None or other.value is None:
            return self.unknown(self.why if self.value is None else other.why)
        assert self.low is not None
        assert self.high is not None
        assert other.low is not None
        assert other.high is not None
        return type(self)(
            value=self.value * other.value,
            low=self.low * other.low,
            high=self.high * other.high,
            basis=weakest([self.basis, other.basis]),
            why=f"{self.why}; {other.why}",
        )


def total(figures: Sequence[Figure], *, why: str) -> Figure:
    """The sum; None where one of them is unknown."""
    missing = next((figure for figure in figures if figure.value is None), None)
    if missing is not None:
        return Figure.unknown(missing.why)
    return Figure(
        value=sum(figure.value or 0.0 for figure in figures),
        low=sum(figure.low or 0.0 for figure in figures),
        high=sum(figure.high or 0.0 for figure in figures),
        basis=weakest([figure.basis for figure in figures]),
        why=why,
    )


def weakest(bases: Sequence[Basis]) -> Basis:
    """The one that a figure from all of these rests on."""
    return max(bases, key=_WEAKEST_LAST.index)
