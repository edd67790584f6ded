"""The paired bootstrap: exact where it can be, honest where it cannot."""

import math

import numpy as np
import pytest

from fusion.evaluation.comparison import Comparison, bits_per_byte, compare

BYTES = np.random.default_rng(0).integers(50, 500, 40)


def compared(nats_model: np.ndarray, nats_baseline: np.ndarray, num_bytes: np.ndarray = BYTES) -> Comparison:
    return compare(
        model="fused",
        baseline="control",
        nats_model=nats_model,
        nats_baseline=nats_baseline,
        num_bytes=num_bytes,
        num_resamples=500,
        confidence=0.95,
        seed=0,
    )


def test_a_constant_gain_per_byte_has_a_point_interval():
    baseline = 2.0 * BYTES

    found = compared(baseline - 0.1 * math.log(2) * BYTES, baseline)

    assert [found.difference, found.low, found.high] == pytest.approx([-0.1, -0.1, -0.1])
    assert found.verdict == "better"
    assert found.sentence.startswith("fused is better than control (-0.1000 bits per byte, 95% interval")


def test_a_constant_loss_is_worse():
    assert compared(2.1 * BYTES, 2.0 * BYTES).verdict == "worse"


def test_noise_is_not_a_result():
    noise = np.random.default_rng(1).normal(0, 20, 40)

    found = compared(2.0 * BYTES + noise - noise.mean(), 2.0 * BYTES)

    assert found.low < 0 < found.high
    assert found.verdict == "no_significant_difference"
    assert found.sentence.startswith("no significant difference between fused and control")


def test_equal_models_do_not_differ():
    found = compared(2.0 * BYTES, 2.0 * BYTES)

    assert (found.difference, found.verdict) == (0.0, "no_significant_difference")


def test_pairing_cancels_what_is_hard_for_both():
    difficulty = np.random.default_rng(2).normal(0, 100, 40)

    found = compared(2.0 * BYTES + difficulty - 0.01 * BYTES, 2.0 * BYTES + difficulty)

    assert found.verdict == "better"


def test_few_documents_cannot_be_judged():
    found = [compared(2.0 * BYTES[:n] - 1, 2.0 * BYTES[:n], BYTES[:n]).verdict for n in (2, 5, 6)]

    assert found == ["too_few_documents", "too_few_documents", "better"]


def test_one_document_is_named_as_such():
    found = compared(np.array([10.0]), np.array([20.0]), np.array([10]))

    assert (found.low, found.verdict) == (None, "too_few_documents")
    assert "on 1 document, too few to judge" in found.sentence


def test_same_seed_same_interval():
    noise = np.random.default_rng(3).normal(0, 20, 40)

    assert compared(BYTES + noise, 1.0 * BYTES) == compared(BYTES + noise, 1.0 * BYTES)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(200):
        found = compared(2.0 * BYTES + BYTES * rng.normal(0.05, 0.2, 40), 2.0 * BYTES)
        hits += found.low <= 0.05 / math.log(2) <= found.high

    assert 176 <= hits <= 199


def test_bits_per_byte_weighs_by_bytes():
    assert bits_per_byte(np.array([1.0, 9.0]) * math.log(2), np.array([10, 10])) == pytest.approx(0.5)
