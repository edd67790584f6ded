"""Learning rate schedule, decay groups, optimiser state by name."""

import pytest
import torch
from torch import nn

from fusion.spec import TrainingSpec
from fusion.training.optimiser import (
    build_optimiser,
    learning_rate_at,
    optimiser_tensors,
    restore_optimiser,
)


def rates(schedule: str, *, num_steps: int = 10, warmup_fraction: float = 0.2) -> list[float]:
    training = TrainingSpec(learning_rate=1.0, schedule=schedule, warmup_fraction=warmup_fraction)
    return [learning_rate_at(step, num_steps, training) for step in range(num_steps)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_warmup_then_schedule(schedule):
    found = rates(schedule)

    assert found[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert found == [*found[:2], *sorted(found[2:], reverse=True)]
    assert min(found) > 0


def test_shapes_of_the_schedules():
    assert rates("linear")[6] == pytest.approx(0.5)
    assert rates("cosine")[6] == pytest.approx(0.5)
    assert rates("constant")[-1] == 1.0


def test_no_warmup_starts_at_the_full_rate():
    assert rates("cosine", warmup_fraction=0.0)[0] == 1.0


def test_norms_and_biases_are_not_decayed():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))

    groups = build_optimiser(model, TrainingSpec(weight_decay=0.1)).param_groups

    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.1, 1), (0.0, 3)]


def test_state_returns_by_parameter_name():
    models = [nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)) for _ in range(2)]
    first, second = (build_optimiser(model, TrainingSpec()) for model in models)
    models[0](torch.randn(2, 3)).square().sum().backward()
    first.step()

    restore_optimiser(models[1], second, optimiser_tensors(models[0], first))

    torch.testing.assert_close(optimiser_tensors(models[1], second), optimiser_tensors(models[0], first))
    assert optimiser_tensors(models[1], second)["0.weight/step"].item() == 1
