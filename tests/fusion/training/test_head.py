"""The fused head gives the losses and gradients of the plain path."""

import pytest
import torch
from torch import nn

from fusion.llms.logit_shape import LogitShape
from fusion.training.head import default_chunk_rows, head_loss
from fusion.training.losses import LossSums, Objective, RowTargets, fusion_loss
from tests.fusion.training.rows import random_targets

HIDDEN, VOCABULARY = 16, 60
PLAIN = LogitShape()


def shaped(output: torch.Tensor, shape: LogitShape) -> torch.Tensor:
    """The textbook formula, for autograd."""
    scaled = shape.scale * output
    return scaled if shape.cap is None else shape.cap * torch.tanh(scaled / shape.cap)


def gradients(sums: LossSums, hidden: torch.Tensor, head: nn.Linear) -> list[torch.Tensor]:
    inputs = [hidden, *head.parameters()]
    return list(torch.autograd.grad(sums.total / 3, inputs))


def both_paths(
    targets: RowTargets, objective: Objective, *, bias: bool, chunk_rows: int, shape: LogitShape = PLAIN
) -> list[tuple[LossSums, list[torch.Tensor]]]:
    """(sums, gradients) of the plain path, then of the fused one."""
    head = nn.Linear(HIDDEN, VOCABULARY, bias=bias, dtype=torch.float64)
    hidden = torch.randn(len(targets.label_ids_N), HIDDEN, dtype=torch.float64, requires_grad=True)
    plain = fusion_loss(shaped(head(hidden), shape), targets, objective=objective)
    fused = head_loss(
        hidden, head.weight, head.bias, targets, objective=objective, shape=shape, chunk_rows=chunk_rows
    )
    return [(sums, gradients(sums, hidden, head)) for sums in (plain, fused)]


@pytest.mark.parametrize("tail", ["renormalise", "bucket", "sampled"])
@pytest.mark.parametrize("divergence", ["ce", "kl"])
@pytest.mark.parametrize("clm_weight", [0.0, 0.6, 1.0])
def test_equals_plain_path(tail, divergence, clm_weight):
    torch.manual_seed(1)
    targets = random_targets(23, VOCABULARY, 5, dtype=torch.float64)
    objective = Objective(clm_weight=clm_weight, divergence=divergence, tail=tail)

    (plain, plain_grads), (fused, fused_grads) = both_paths(targets, objective, bias=True, chunk_rows=7)

    torch.testing.assert_close(fused.total, plain.total)
    torch.testing.assert_close(fused.clm, plain.clm)
    torch.testing.assert_close(fused.fusion, plain.fusion)
    torch.testing.assert_close(fused_grads, plain_grads)


SHAPES = [
    LogitShape(scale=0.125),
    LogitShape(cap=1.5),
    LogitShape(scale=3.0, cap=2.0),
]


@pytest.mark.parametrize("tail", ["renormalise", "bucket", "sampled"])
@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_scale_and_cap_equal_plain_path(shape, tail):
    torch.manual_seed(4)
    targets = random_targets(23, VOCABULARY, 5, dtype=torch.float64)
    objective = Objective(clm_weight=0.6, divergence="kl", tail=tail)

    (plain, plain_grads), (fused, fused_grads) = both_paths(
        targets, objective, bias=True, chunk_rows=7, shape=shape
    )

    torch.testing.assert_close(fused.total, plain.total)
    torch.testing.assert_close(fused.fusion, plain.fusion)
    torch.testing.assert_close(fused_grads, plain_grads)


@pytest.mark.parametrize("shape", [PLAIN, *SHAPES], ids=repr)
def test_gradients_are_the_slopes_of_the_loss(shape):
    """Central differences over every coordinate in fp64: `gradcheck`, whose second backward is refused."""
    torch.manual_seed(5)
    targets = random_targets(4, 9, 3, dtype=torch.float64)
    objective = Objective(clm_weight=0.6, divergence="ce", tail="bucket")
    inputs = [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in [(4, 5), (9, 5), (9,)]]

    def total() -> torch.Tensor:
        return head_loss(*inputs, targets, objective=objective, shape=shape, chunk_rows=3).total

    for tensor, gradient in zip(inputs, torch.autograd.grad(total(), inputs), strict=True):
        values = tensor.detach().view(-1)
        slopes = torch.empty_like(values)
        for place in range(len(values)):
            with torch.no_grad():
                values[place] += 1e-6
                above = total()
                values[place] -= 2e-6
                slopes[place] = (above - total()) / 2e-6
                values[place] += 1e-6
        torch.testing.assert_close(gradient.view(-1), slopes, rtol=1e-6, atol=1e-8)


def test_a_second_backward_is_refused():
    head = nn.Linear(HIDDEN, VOCABULARY)
    objective = Objective(clm_weight=0.5, divergence="ce", tail="bucket")
    total = head_loss(
        torch.randn(4, HIDDEN), head.weight, head.bias, random_targets(4, VOCABULARY, 3), objective=objective
    ).total
    total.backward(retain_graph=True)

    with pytest.raises(RuntimeError, match="inplace operation"):
        total.backward()


@pytest.mark.parametrize("chunk_rows", [1, 5, 64])
def test_chunk_size_changes_nothing(chunk_rows):
    torch.manual_seed(2)
    targets = random_targets(20, VOCABULARY, 4, dtype=torch.float64)
    objective = Objective(clm_weight=0.5, divergence="ce", tail="bucket")

    (plain, plain_grads), (fused, fused_grads) = both_paths(
        targets, objective, bias=False, chunk_rows=chunk_rows
    )

    torch.testing.assert_close(fused.total, plain.total)
    torch.testing.assert_close(fused_grads, plain_grads)


def test_autocast_keeps_gradients_in_the_parameters_type():
    torch.manual_seed(3)
    targets = random_targets(40, VOCABULARY, 4)
    objective = Objective(clm_weight=0.5, divergence="ce", tail="bucket")
    head = nn.Linear(HIDDEN, VOCABULARY)
    hidden = torch.randn(40, HIDDEN, requires_grad=True)
    exact = gradients(fusion_loss(head(hidden), targets, objective=objective), hidden, head)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        sums = head_loss(hidden, head.weight, head.bias, targets, objective=objective, chunk_rows=16)
    found = gradients(sums, hidden, head)

    for one, other in zip(found, exact, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.02 * other.norm()


def test_no_rows_give_zero():
    targets = random_targets(2, VOCABULARY, 3).rows(0, 0)
    head = nn.Linear(HIDDEN, VOCABULARY)
    objective = Objective(clm_weight=0.5, divergence="ce", tail="bucket")

    sums = head_loss(torch.zeros(0, HIDDEN), head.weight, head.bias, targets, objective=objective)

    assert sums.total.item() == 0


def test_chunks_shrink_with_the_vocabulary():
    cpu = torch.device("cpu")

    assert default_chunk_rows(32_000, cpu) > default_chunk_rows(256_000, cpu) >= 32
