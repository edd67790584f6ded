"""Whom the student is measured against at every row: the speaker whose row is due there, and what it pays.

Letters: `S` speakers, `T` rows of the lessons.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusion.alignment.speakers import score_windows
from fusion.alignment.target_text import TargetText
from fusion.blending.mixing import NOBODY, SEVERAL
from fusion.blending.rules import sum_over_speakers
from fusion.io.captures import Capture
from fusion.io.tensors import Array
from fusion.spec import BlendingSpec

_RATE = BlendingSpec(granularity="sequence", score="bits_per_byte")
"""The only score that compares models of different tokenizers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rivalry:
    """rivals: int8 [T]; a speaker, `SEVERAL` or `NOBODY`. nats: float16 [T]; for the row's next token."""

    rivals: Array
    nats: Array


def measure_rivals(
    text: TargetText, captures_S: Sequence[Capture], first: int, *, shares_ST: Array
) -> Rivalry:
    """Who is due at each row, and the nats of the row's next token at its bits per byte in the window.

    The rate is the mean over the window: a speaker with other tokens has no score of its own for each of the
    target's. Of several speakers it is the mean by their shares.

    Args:
        captures_S: one per speaker; window `first` is the first of `text`.
        shares_ST: [S, T]; what each speaker has of the row before anybody was found silent.
    """
    rates_ST = np.stack([score_windows(text, capture, first, blending=_RATE) for capture in captures_S])
    due_ST = (shares_ST > 0) & np.isfinite(rates_ST)
    weights_ST = np.where(due_ST, shares_ST, 0.0)
    totals_T = sum_over_speakers(weights_ST)
    bits_ST = weights_ST * np.where(due_ST, rates_ST, 0.0)
    bits_T = sum_over_speakers(bits_ST) / np.where(totals_T > 0, totals_T, 1)
    num_due_T = due_ST.sum(axis=0)
    rivals_T = np.where(num_due_T > 1, SEVERAL, np.where(num_due_T == 1, np.argmax(due_ST, axis=0), NOBODY))
    nats_T = bits_T * math.log(2.0) * _next_bytes(text)
    return Rivalry(rivals=rivals_T.astype(np.int8), nats=nats_T.astype(np.float16))


def _next_bytes(text: TargetText) -> Array:
    """int64 [T]; bytes of the token that follows in the window, 0 after its last."""
    following = np.append(text.ends[1:], 0) - text.ends
    return np.where(text.next_ids >= 0, following, 0)
