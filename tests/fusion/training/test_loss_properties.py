"""Loss and gradient against the dense definition, for any row, tail and divergence, in fp64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fusion.training.head import head_loss
from fusion.training.losses import NO_ID, Objective, RowTargets, sparse_cross_entropy
from tests.fusion.training.rows import dense_cross_entropy, dense_rows, random_targets

TAILS = ["renormalise", "bucket", "sampled"]
OBJECTIVES = [
    Objective(clm_weight=weight, divergence=divergence, tail=tail)
    for weight in (0.0, 0.7)
    for divergence in ("ce", "kl")
    for tail in TAILS
]


def seeded_rows(seed: int, num_rows: int, vocabulary: int, num_kept: int) -> RowTargets:
    torch.manual_seed(seed)
    return random_targets(num_rows, vocabulary, num_kept, dtype=torch.float64)


@pytest.mark.parametrize("tail", TAILS)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.tuples(st.integers(1, 5), st.integers(3, 40)),
    kept=st.floats(0.05, 0.9),
    scale=st.sampled_from([0.01, 1.0, 4.0]),
)
@settings(max_examples=60)
def test_value_and_gradient_are_those_of_the_dense_loss(
    tail: Any, seed: int, sizes: tuple[int, int], kept: float, scale: float
) -> None:
    num_rows, vocabulary = sizes
    targets = seeded_rows(seed, num_rows, vocabulary, max(1, int(kept * vocabulary)))
    logits = (scale * torch.randn(num_rows, vocabulary, dtype=torch.float64)).requires_grad_()
    # The mass outside the entries is 1 - Q: where it is next to nothing, fp64 keeps few of its digits.
    outside = (logits.softmax(-1) * (dense_rows(targets, vocabulary) == 0)).sum(-1)
    assume(bool((outside > 1e-6).all()))

    sparse = sparse_cross_entropy(
        logits, targets.entry_ids_NK, targets.entry_weights_NK, tail=tail, tails=targets.tails_N
    )
    dense = dense_cross_entropy(logits, targets, tail=tail)

    # The bucket's mass is 1 less the kept mass: of a small one only so many digits are left.
    kept_mass = logits.softmax(-1).gather(-1, targets.entry_ids_NK.clamp(min=0)) * (
        targets.entry_weights_NK > 0
    )
    rounding = 1e-9 + 1e-14 / (1.0 - kept_mass.sum(-1)).min().item() if tail == "bucket" else 1e-9
    torch.testing.assert_close(sparse, dense, rtol=1e-9, atol=rounding)
    gradients = [torch.autograd.grad(loss.sum(), logits)[0] for loss in (sparse, dense)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=rounding)


@pytest.mark.parametrize("tail", TAILS)
def test_the_order_of_entries_does_not_matter(tail: Any) -> None:
    targets = seeded_rows(1, 8, 30, 6)
    logits = torch.randn(8, 30, dtype=torch.float64)
    order = torch.randperm(6)

    losses = [
        sparse_cross_entropy(logits, ids, weights, tail=tail, tails=targets.tails_N)
        for ids, weights in (
            (targets.entry_ids_NK, targets.entry_weights_NK),
            (targets.entry_ids_NK[:, order], targets.entry_weights_NK[:, order]),
        )
    ]

    torch.testing.assert_close(*losses, rtol=1e-12, atol=1e-12)


def central_differences(function: Callable[[], torch.Tensor], values: torch.Tensor) -> torch.Tensor:
    """The numeric gradient. `gradcheck` walks back twice through one graph, which the head refuses."""
    gradient = torch.zeros_like(values)
    flat, step = values.view(-1), 1e-6
    for index in range(len(flat)):
        given = flat[index].item()
        ends = []
        for moved in (given + step, given - step):
            flat[index] = moved
            ends.append(function())
        flat[index] = given
        gradient.view(-1)[index] = (ends[0] - ends[1]) / (2 * step)
    return gradient


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_the_fused_head_has_the_numeric_gradient(objective: Objective) -> None:
    targets = seeded_rows(2, 5, 9, 4)
    inputs = [torch.randn(*shape, dtype=torch.float64) for shape in ((5, 3), (9, 3), (9,))]

    def total(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return head_loss(hidden, weight, bias, targets, objective=objective, chunk_rows=2).total

    leaves = [each.clone().requires_grad_() for each in inputs]
    exact = torch.autograd.grad(total(*leaves), leaves)

    for values, gradient in zip(inputs, exact, strict=True):
        numeric = central_differences(lambda: total(*inputs), values)
        torch.testing.assert_close(gradient, numeric, rtol=1e-6, atol=1e-7)


def test_the_fused_head_refuses_a_second_backward_instead_of_scaling_twice() -> None:
    targets = seeded_rows(3, 4, 9, 3)
    hidden = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    total = head_loss(hidden, weight, None, targets, objective=OBJECTIVES[1]).total
    total.backward(retain_graph=True)

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


@pytest.mark.parametrize("objective", OBJECTIVES[:6], ids=str)
def test_the_fused_head_ignores_places_of_weight_zero(objective: Objective) -> None:
    targets = seeded_rows(4, 6, 9, 4)
    unused = targets.entry_ids_NK == NO_ID
    assert unused.any()
    padded = RowTargets(
        label_ids_N=targets.label_ids_N,
        entry_ids_NK=targets.entry_ids_NK.masked_fill(unused, 5),
        entry_weights_NK=targets.entry_weights_NK,
        tails_N=targets.tails_N,
    )
    hidden, weight = torch.randn(6, 3, dtype=torch.float64), torch.randn(9, 3, dtype=torch.float64)

    totals = [head_loss(hidden, weight, None, each, objective=objective).total for each in (targets, padded)]

    assert torch.equal(*totals)
