"""Which speakers the student still follows.

A speaker that predicts text worse than the student has little left to teach and holds it back. Both are
measured on the same text, in nats, before the student is trained on it: on every step of the first epoch, by
the student as it then is. Later epochs would measure what it remembers, so the answer of the first stays.

Letters: `N` rows, `S` slots: one per speaker, and a last one for mixtures.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_KEPT_PER_STEP = 0.9
"""Sums are those of about the last ten steps: the student moves, and one step's text is a small sample."""


@dataclass(kw_only=True, slots=True)
class Following:
    """Decayed sums of nats over the rows each speaker was due at. [S]"""

    student_S: list[float]
    rival_S: list[float]
    margin: float

    @staticmethod
    def start(num_speakers: int, *, margin: float) -> "Following":
        """Nothing measured yet. `margin`: share of the student's nats by which a speaker may be worse."""
        zeros = [0.0] * (num_speakers + 1)
        return Following(student_S=zeros, rival_S=zeros.copy(), margin=margin)

    @property
    def followed(self) -> list[bool]:
        """[S]; whether a slot is followed: unless it has been seen to be worse."""
        measured = zip(self.rival_S, self.student_S, strict=True)
        return [rival <= (1.0 + self.margin) * student for rival, student in measured]

    def add(self, student_S: list[float], rival_S: list[float]) -> None:
        """Take in one step's sums, measured before the student was trained on it."""
        for sums, added in ((self.student_S, student_S), (self.rival_S, rival_S)):
            sums[:] = [_KEPT_PER_STEP * old + new for old, new in zip(sums, added, strict=True)]


def rows_followed(rivals_N: Tensor, followed_S: list[bool]) -> Tensor:
    """bool [N]; rows whose rival is followed. Rows without a rival keep what is said there."""
    table = torch.tensor([*followed_S, True], device=rivals_N.device)
    return table[_slots(rivals_N, len(followed_S))]


def sums_by_rival(values_N: Tensor, rivals_N: Tensor, *, num_slots: int) -> Tensor:
    """fp64 [S]; sum of the values of each slot's rows."""
    sums = torch.zeros(num_slots + 1, dtype=torch.float64, device=values_N.device)
    return sums.index_add_(0, _slots(rivals_N, num_slots), values_N.double())[:-1]


def _slots(rivals_N: Tensor, num_slots: int) -> Tensor:
    """Slot of every row; `num_slots` where there is no rival. `SEVERAL` (-2) is the last slot."""
    return torch.where(rivals_N >= 0, rivals_N, torch.where(rivals_N == -2, num_slots - 1, num_slots))
