"""One line of the result: a measurement, what it is compared with, and whether the target is reached."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

Direction = Literal["at least", "at most"]

SAME_RUN = "same run, interleaved"
REFERENCE_FIGURE = "the reference's own figure on similar work"
FIXED = "a fixed figure"
NO_TARGET = "no target"


class Verdict(StrEnum):
    """What a row says about its target."""

    OK = "ok"
    WITHIN_NOISE = "within noise"
    """The target is missed, by no more than the noise margin."""
    MISSED = "missed"
    NO_TARGET = "no target"
    NOT_JUDGED = "not judged"
    """The sizes were too small to say anything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One measurement.

    name: short and unique; `--only` matches it.
    work: what was done, with its size.
    unit: of `measured` and `compared`.
    compared: what `measured` is compared with; None without a target.
    compared_with: the words for it.
    basis: where `compared` comes from.
    ratio: measured / compared, or the other way round: `ratio_of` says.
    noise_margin: relative half-width, half the distance between the quartiles of the repetitions.
    details: further figures for the JSON.
    judged: false where the work was too small for its ratio to mean anything.
    """

    name: str
    work: str
    unit: str
    measured: float
    compared: float | None = None
    compared_with: str = ""
    basis: str = NO_TARGET
    ratio: float | None = None
    ratio_of: str = ""
    direction: Direction = "at least"
    target_ratio: float | None = None
    noise_margin: float = 0.0
    details: dict[str, Any]
    judged: bool = True

    @property
    def verdict(self) -> Verdict:
        """Compares the ratio with its target, as far as the noise allows."""
        if self.ratio is None or self.target_ratio is None:
            return Verdict.NO_TARGET
        if not self.judged:
            return Verdict.NOT_JUDGED
        if self.direction == "at least":
            reached, nearly = self.ratio, self.ratio * (1.0 + self.noise_margin)
            ok, close = reached >= self.target_ratio, nearly >= self.target_ratio
        else:
            reached, nearly = self.ratio, self.ratio * (1.0 - self.noise_margin)
            ok, close = reached <= self.target_ratio, nearly <= self.target_ratio
        if ok:
            return Verdict.OK
        return Verdict.WITHIN_NOISE if close else Verdict.MISSED
