"""Counts behind the figures of `align`: they add up over blocks and shards."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

import numpy as np

from fusion.alignment.speakers import Silence
from fusion.io.tensors import Array


@dataclass(kw_only=True, slots=True)
class SpeakerTally:
    """Counts of one captured model.

    share: rows won, in parts where several speak.
    mass_seen, mass_kept: probability before and after the vocabulary map, over the rows that were mapped.
    """

    num_lossy_windows: int = 0
    num_aligned_rows: int = 0
    num_quarantined_rows: int = 0
    num_whitespace_rows: int = 0
    share: float = 0.0
    mass_seen: float = 0.0
    mass_kept: float = 0.0

    def add(self, other: "SpeakerTally") -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(kw_only=True, slots=True)
class Tally:
    """Counts of a run of windows.

    num_rows: tokens that predict something: all but the EOS that closes a document.
    masked: rows without a lesson, by reason.
    """

    num_windows: int = 0
    num_sequences: int = 0
    num_target_tokens: int = 0
    num_rows: int = 0
    num_entries: int = 0
    num_one_hot_rows: int = 0
    masked: dict[str, int] = field(default_factory=dict)
    speakers: dict[str, SpeakerTally] = field(default_factory=dict)

    def add(self, other: Self) -> None:
        for name in ("num_windows", "num_sequences", "num_target_tokens", "num_rows", "num_entries"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.num_one_hot_rows += other.num_one_hot_rows
        for reason, count in other.masked.items():
            self.masked[reason] = self.masked.get(reason, 0) + count
        for name, speaker in other.speakers.items():
            self.speakers.setdefault(name, SpeakerTally()).add(speaker)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        speakers = {name: SpeakerTally(**counts) for name, counts in data["speakers"].items()}
        return cls(**{**data, "speakers": speakers})

    def figures(self) -> dict[str, Any]:
        """What the report says; shares are of all rows, and null where there are none."""
        return {
            "num_windows": self.num_windows,
            "num_sequences": self.num_sequences,
            "num_lossy_windows": {
                "target": self.num_windows - self.num_sequences,
                **{name: one.num_lossy_windows for name, one in self.speakers.items() if name != "target"},
            },
            "num_target_tokens": self.num_target_tokens,
            "num_rows": self.num_rows,
            "num_entries": self.num_entries,
            "aligned_share": self._shares("num_aligned_rows"),
            "mass_kept": {name: _ratio(one.mass_kept, one.mass_seen) for name, one in self.speakers.items()},
            "won_share": self._shares("share"),
            "one_hot_share": _ratio(self.num_one_hot_rows, self.num_rows),
            "masked_share": _ratio(sum(self.masked.values()), self.num_rows),
            "masked_rows": self.masked,
            "quarantined_rows": {name: one.num_quarantined_rows for name, one in self.speakers.items()},
            "whitespace_rows": {name: one.num_whitespace_rows for name, one in self.speakers.items()},
        }

    def _shares(self, count: str) -> dict[str, float | None]:
        return {name: _ratio(getattr(one, count), self.num_rows) for name, one in self.speakers.items()}


def count_reasons(silence: Array) -> dict[str, int]:
    """Rows per reason for silence, in lower case, reasons without a row left out."""
    return {
        reason.name.lower(): count
        for reason in Silence
        if reason is not Silence.NONE and (count := int(np.count_nonzero(silence == reason)))
    }


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 6) if whole else None
