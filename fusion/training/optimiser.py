"""AdamW over the target's parameters, and the learning rate of every step."""

import math
from typing import Any

import torch
from torch import nn

from fusion.spec import TrainingSpec


def build_optimiser(model: nn.Module, training: TrainingSpec) -> torch.optim.AdamW:
    """AdamW; biases and norms (one dimension) are not decayed, as in the reference's Trainer."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=training.learning_rate,
        betas=(training.adam_beta1, training.adam_beta2),
        fused=parameters[0].device.type in ("cpu", "cuda"),
    )


def learning_rate_at(step: int, num_steps: int, training: TrainingSpec) -> float:
    """Learning rate of step `step` (from 0): linear warm-up, then the schedule down to 0 after the last step.

    A pure function of the step, so a resumed run needs no scheduler state.
    """
    num_warmup = math.ceil(training.warmup_fraction * num_steps)
    if step < num_warmup:
        return training.learning_rate * (step + 1) / num_warmup
    done = (step - num_warmup) / max(1, num_steps - num_warmup)
    factor = {
        "constant": 1.0,
        "linear": 1.0 - done,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
    }[training.schedule]
    return training.learning_rate * factor


def set_learning_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = learning_rate


def optimiser_tensors(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's moments and step counts as `parameter-name/key` tensors."""
    return {
        f"{name}/{key}": torch.as_tensor(value)
        for name, parameter in model.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def restore_optimiser(
    model: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]
) -> None:
    """Put back what `optimiser_tensors` gave."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    of_name: dict[str, dict[str, torch.Tensor]] = {}
    for full_name, tensor in tensors.items():
        name, key = full_name.rsplit("/", 1)
        of_name.setdefault(name, {})[key] = tensor
    ordered = [names[p] for group in optimiser.param_groups for p in group["params"]]
    state: dict[str, Any] = optimiser.state_dict()
    state["state"] = {index: of_name[name] for index, name in enumerate(ordered) if name in of_name}
    optimiser.load_state_dict(state)
