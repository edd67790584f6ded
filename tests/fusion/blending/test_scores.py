import math

import numpy as np
import pytest

from fusion.blending.scores import score_rows
from fusion.spec import BlendingSpec

ENDS = np.array([0, 4, 8, 12, 16])
LOGPROBS = np.array([-1.0, -2.0, -3.0, -4.0, -5.0])
"""Rows of a window of 16 bytes; the last predicts EOS, which spells nothing."""


def test_bits_per_byte_of_a_sequence_is_one_number_for_all_rows() -> None:
    scores = score_rows(ENDS, ENDS, LOGPROBS, spec=BlendingSpec())

    assert scores.dtype == np.float32
    assert scores == pytest.approx([15.0 / 16 / math.log(2)] * 5)


def test_ce_per_token_is_the_mean_over_known_tokens() -> None:
    logprobs = np.array([-1.0, -2.0, -3.0, -4.0, np.nan])

    scores = score_rows(ENDS, ENDS, logprobs, spec=BlendingSpec(score="ce_per_token"))

    assert scores == pytest.approx([2.5] * 5)


def test_a_quarantined_token_costs_neither_nats_nor_bytes() -> None:
    ends, logprobs = np.array([0, 4, 5, 12, 16]), np.array([-1.0, np.nan, -3.0, -4.0, np.nan])

    scores = score_rows(ends, ends, logprobs, spec=BlendingSpec())

    assert scores == pytest.approx([8.0 / 15 / math.log(2)] * 5)


@pytest.mark.parametrize("score", ["bits_per_byte", "ce_per_token"])
def test_a_source_known_on_too_few_bytes_has_no_score(score: str) -> None:
    spec = BlendingSpec.model_validate({"score": score})
    logprobs = np.array([-1.0, np.nan, np.nan])

    enough, too_few = (
        score_rows(ends, ends, logprobs, spec=spec) for ends in (np.array([0, 9, 10]), np.array([0, 9, 11]))
    )

    assert np.isfinite(enough).all()
    assert np.isinf(too_few).all()


def test_too_few_known_bytes_void_the_window_they_lie_in_and_no_other() -> None:
    ends, logprobs = np.arange(33) * 4, np.full(33, -1.0)
    logprobs[1] = np.nan
    spec = BlendingSpec(granularity="window", window_bytes=32)

    scores = score_rows(ends, ends, logprobs, spec=spec)

    assert np.isinf(scores[:8]).all()
    assert np.isfinite(scores[8:]).all()


def test_a_token_ruled_out_costs_much_where_it_is_and_nothing_elsewhere() -> None:
    logprobs = np.array([-np.inf, -2.0, -3.0, -4.0, -5.0])
    spec = BlendingSpec(granularity="window", window_bytes=8)

    scores = score_rows(ENDS, ENDS, logprobs, spec=spec)

    first, second, whole = 10_002.0 / 8, 7.0 / 8, 10_014.0 / 16
    assert scores * math.log(2) == pytest.approx([first, first, second, second, whole])


def test_bits_per_byte_does_not_depend_on_how_text_is_cut_into_tokens() -> None:
    finer = score_rows(
        ENDS, np.array([0, 2, 4, 8, 16]), np.array([-1, -2, -3, -4, np.nan]), spec=BlendingSpec()
    )
    coarser = score_rows(ENDS, np.array([0, 8, 16]), np.array([-6, -4, np.nan]), spec=BlendingSpec())

    assert finer.tolist() == coarser.tolist()


def test_a_window_is_scored_by_the_tokens_that_begin_in_it() -> None:
    spec = BlendingSpec(granularity="window", window_bytes=8)

    scores = score_rows(ENDS, ENDS, LOGPROBS, spec=spec)

    first, second, whole = 3.0 / 8, 7.0 / 8, 15.0 / 16
    assert scores * math.log(2) == pytest.approx([first, first, second, second, whole])


def test_a_token_is_scored_by_its_neighbours_and_not_by_itself() -> None:
    spec = BlendingSpec(granularity="token", window_bytes=8, score="ce_per_token")

    scores = score_rows(ENDS, ENDS, LOGPROBS, spec=spec)

    assert scores == pytest.approx([2.0, 2.0, 3.0, 4.0, 4.0])


@pytest.mark.parametrize("granularity", ["sequence", "window", "token"])
def test_a_source_that_predicts_nothing_has_an_infinite_score(granularity: str) -> None:
    spec = BlendingSpec.model_validate({"granularity": granularity})

    scores = score_rows(ENDS, np.array([0]), np.array([np.nan]), spec=spec)

    assert np.isinf(scores).all()
