"""Whom the student is measured against, and what that speaker pays."""

import math

import numpy as np
import pytest

from fusion.alignment.rivals import measure_rivals
from fusion.alignment.target_text import TargetText
from fusion.blending.mixing import NOBODY, SEVERAL
from fusion.io.captures import Capture
from fusion.io.tensors import Array

TEXT = TargetText(
    window_starts=np.array([0, 4]),
    token_ids=np.array([1, 7, 8, 2], dtype=np.int32),
    ends=np.array([0, 3, 4, 4]),
    is_start=np.array([True, False, False, False]),
    is_end=np.array([False, False, False, True]),
    is_spaced=np.zeros(4, dtype=bool),
)


def capture(ends: list[int], nats: list[float]) -> Capture:
    """One window of a model that pays `nats` for the token after each row."""
    num_rows = len(ends)
    return Capture(
        window_starts=np.array([0, num_rows]),
        ends=np.array(ends, dtype=np.uint32),
        next_ids=np.zeros(num_rows, dtype=np.int32),
        next_logprobs=-np.array(nats, dtype=np.float32),
        top_ids=np.zeros((num_rows, 1), dtype=np.uint16),
        top_logprobs=np.zeros((num_rows, 1), dtype=np.float16),
        tail_logprobs=np.full(num_rows, -np.inf, dtype=np.float16),
        sample_ids=np.zeros((num_rows, 0), dtype=np.uint16),
    )


def shares(*rows: list[float]) -> Array:
    return np.array(rows, dtype=np.float32)


COARSE = capture([0, 4], [8.0, math.nan])
FINE = capture([0, 1, 2, 3, 4], [1.0, 1.0, 1.0, 1.0, math.nan])


def test_nats_follow_the_bytes_of_the_next_token() -> None:
    found = measure_rivals(TEXT, [COARSE, FINE], 0, shares_ST=shares([0] * 4, [1] * 4))
    assert found.rivals.tolist() == [1, 1, 1, 1]
    # One nat per byte: three bytes, one byte, none for EOS, none after it.
    assert found.nats.tolist() == pytest.approx([3.0, 1.0, 0.0, 0.0], rel=1e-3)


def test_a_mixture_pays_the_mean_by_shares() -> None:
    found = measure_rivals(TEXT, [COARSE, FINE], 0, shares_ST=shares([0.75] * 4, [0.25] * 4))
    assert set(found.rivals.tolist()) == {SEVERAL}
    assert found.nats[0] == pytest.approx(3 * (0.75 * 2.0 + 0.25 * 1.0), rel=1e-3)


def test_nobody_is_due_where_nobody_has_a_share_or_read_the_window() -> None:
    unread = capture([], [])
    found = measure_rivals(TEXT, [unread, FINE], 0, shares_ST=shares([1, 1, 1, 1], [0, 0, 1, 0]))
    assert found.rivals.tolist() == [NOBODY, NOBODY, 1, NOBODY]
    assert found.nats.tolist() == [0.0, 0.0, 0.0, 0.0]
