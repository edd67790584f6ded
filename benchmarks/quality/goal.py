"""What the default preset has to reach, and whether it does.

It beats the control and the paper's preset in at least one regime, with intervals that exclude zero, and is
significantly worse than the control in none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.quality.report import OVERALL, RegimeReport
from benchmarks.quality.variants import DEFAULT, PAPER


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """Whether the goal is reached, and what that rests on."""

    reached: bool
    sentences: tuple[str, ...]


def judge(reports: Sequence[RegimeReport]) -> Judgement:
    """Judge by the documents of all domains together."""
    sentences, won, lost = [], [], []
    for report in reports:
        name = str(report.regime["name"])
        control = report.against_control[DEFAULT.name][OVERALL].pooled
        # The other way round: the paper's preset against the default.
        paper = report.against_default[PAPER.name][OVERALL].pooled
        sentences += [f"{name}: {control.sentence}", f"{name}: {paper.sentence}"]
        if control.verdict == "better" and paper.verdict == "worse":
            won.append(name)
        if control.verdict == "worse":
            lost.append(name)
    reached = bool(won) and not lost
    sentences.append(
        f"The goal is {'reached' if reached else 'MISSED'}: better than control and paper in "
        f"{', '.join(won) or 'no regime'}, worse than the control in {', '.join(lost) or 'none'}."
    )
    return Judgement(reached=reached, sentences=tuple(sentences))
