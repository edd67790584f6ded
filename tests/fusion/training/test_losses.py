"""The sparse loss equals the dense one, with its gradient, under every tail rule."""

import math

import pytest
import torch

from fusion.training.losses import (
    NO_ID,
    Objective,
    RowTargets,
    fusion_loss,
    log1mexp,
    sparse_cross_entropy,
    sparse_kl_divergence,
)
from tests.fusion.training.rows import dense_cross_entropy, dense_rows, random_targets

TAILS = ["renormalise", "bucket", "sampled"]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def sparse_args(targets: RowTargets) -> tuple[torch.Tensor, torch.Tensor]:
    return targets.entry_ids_NK, targets.entry_weights_NK


@pytest.mark.parametrize("tail", TAILS)
def test_equals_dense_computation(tail):
    logits = 3 * torch.randn(20, 50, dtype=torch.float64)
    targets = random_targets(20, 50, 6, dtype=torch.float64)

    loss = sparse_cross_entropy(logits, *sparse_args(targets), tail=tail, tails=targets.tails_N)

    torch.testing.assert_close(loss, dense_cross_entropy(logits, targets, tail=tail), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tail", TAILS)
def test_gradient_is_exact(tail):
    logits = torch.randn(6, 12, dtype=torch.float64, requires_grad=True)
    targets = random_targets(6, 12, 4, dtype=torch.float64)

    def loss(z):
        return sparse_cross_entropy(z, *sparse_args(targets), tail=tail, tails=targets.tails_N)

    assert torch.autograd.gradcheck(loss, logits)


def test_gradient_is_mass_times_softmax_minus_weights():
    logits = torch.randn(5, 9, dtype=torch.float64, requires_grad=True)
    targets = random_targets(5, 9, 3, dtype=torch.float64)

    sparse_cross_entropy(logits, *sparse_args(targets), tail="sampled").sum().backward()

    mass = targets.entry_weights_NK.sum(-1, keepdim=True)
    torch.testing.assert_close(logits.grad, mass * logits.detach().softmax(-1) - dense_rows(targets, 9))


@pytest.mark.parametrize("tail", TAILS)
def test_kl_of_equal_inputs_is_zero(tail):
    vocabulary = 8
    logits = torch.randn(4, vocabulary, dtype=torch.float64)
    num_kept = 3 if tail == "bucket" else vocabulary
    weights, ids = logits.softmax(-1).topk(num_kept)

    divergence = sparse_kl_divergence(logits, ids, weights, tail=tail)

    torch.testing.assert_close(divergence, torch.zeros(4, dtype=torch.float64), atol=1e-12, rtol=0)


def test_kl_is_positive_for_unequal_inputs():
    targets = random_targets(30, 40, 5)

    divergence = sparse_kl_divergence(
        torch.randn(30, 40), *sparse_args(targets), tail="bucket", tails=targets.tails_N
    )

    assert (divergence[1:] > 0).all()
    assert divergence[0] == 0


def test_bucket_without_tails_takes_the_rest():
    logits, targets = torch.randn(10, 30), random_targets(10, 30, 4)

    given = sparse_cross_entropy(logits, *sparse_args(targets), tail="bucket", tails=targets.tails_N)
    derived = sparse_cross_entropy(logits, *sparse_args(targets), tail="bucket")

    torch.testing.assert_close(given, derived)


def test_bucket_stays_finite_for_a_certain_student():
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    ids, weights = torch.tensor([[0]]), torch.tensor([[0.9]])

    loss = sparse_cross_entropy(logits, ids, weights, tail="bucket").sum()
    loss.backward()

    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_fp32(dtype):
    logits, targets = torch.randn(6, 20).to(dtype), random_targets(6, 20, 3)

    loss = sparse_cross_entropy(logits, *sparse_args(targets), tail="renormalise")

    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, dense_cross_entropy(logits.float(), targets, tail="renormalise"))


def test_row_without_entries_teaches_nothing():
    logits = torch.randn(1, 5, requires_grad=True)

    loss = sparse_cross_entropy(logits, torch.full((1, 2), NO_ID), torch.zeros(1, 2), tail="bucket")
    loss.sum().backward()

    assert loss.item() == 0
    assert logits.grad.abs().max() == 0


def test_log1mexp_is_accurate_at_both_ends():
    x = [-1e-9, -0.5, -0.7, -40.0]
    expected = [*(math.log(-math.expm1(value)) for value in x[:3]), -math.exp(-40.0)]

    found = log1mexp(torch.tensor(x, dtype=torch.float64)).tolist()

    assert found == pytest.approx(expected, rel=1e-12, abs=0)


def test_objective_weighs_clm_and_divergence():
    logits, targets = torch.randn(12, 25), random_targets(12, 25, 4)
    objective = Objective(clm_weight=0.7, divergence="ce", tail="bucket")

    sums = fusion_loss(logits, targets, objective=objective)

    labelled = targets.label_ids_N != NO_ID
    clm = -logits.log_softmax(-1)[labelled, targets.label_ids_N[labelled]].sum()
    fusion = dense_cross_entropy(logits, targets, tail="bucket").sum()
    torch.testing.assert_close(sums.clm.float(), clm)
    torch.testing.assert_close(sums.fusion.float(), fusion)
    torch.testing.assert_close(sums.total.float(), 0.7 * clm + 0.3 * fusion)


def test_entries_are_read_where_they_decide_the_weight_of_clm():
    def needs(clm_weight: float, alone: float | None) -> bool:
        objective = Objective(clm_weight=clm_weight, divergence="ce", tail="bucket", clm_weight_alone=alone)
        return objective.needs_entries

    assert needs(0.5, None)
    assert needs(1.0, 0.5)
    assert not needs(1.0, 1.0)
    assert not needs(1.0, None)
