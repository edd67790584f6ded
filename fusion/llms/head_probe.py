"""How a model makes logits of its hidden states, found by asking the model and not by its name.

Two probes on a few tokens. In the first, the backbone's and the head's outputs are exchanged for chosen
values, small to enormous: what comes out shows factors and caps whatever the weights are, and in training
mode also any dropout on the way. The second compares real logits with those rebuilt from the answer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fusion.llms.logit_shape import LogitShape

_PROBE_TOKENS = 8
_SMALL = 2.0**-20
"""tanh of it is linear to rounding."""
_ENORMOUS = 1e30
_RELATIVE_ROUNDING = 1e-5


class HeadUnfamiliar(Exception):
    """The logits are not made by a linear layer, a factor and a soft cap; the message says what was seen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """logits = shape(linear(hidden_factor * hidden))."""

    linear: nn.Linear
    hidden_factor: float = 1.0
    shape: LogitShape

    def logits(self, hidden_XH: Tensor) -> Tensor:
        """[X, V], the model's own; no gradient passes the shape."""
        if self.hidden_factor != 1.0:
            hidden_XH = hidden_XH * self.hidden_factor
        logits_XV: Tensor = self.linear(hidden_XH)
        self.shape.apply_(logits_XV)
        return logits_XV


@torch.no_grad()
def probe_head(model: Any) -> Head:
    """The head of a causal language model; leaves the model in the mode in which it came.

    Raises:
        HeadUnfamiliar: head and loss cannot run in one pass.
    """
    linear = model.get_output_embeddings()
    if not isinstance(linear, nn.Linear):
        raise HeadUnfamiliar(f"the output layer is {type(linear).__name__}, not a linear layer")
    if model.base_model is model:
        raise HeadUnfamiliar("the model has no backbone of its own")
    was_training = model.training
    try:
        model.train()
        head = _head_by_chosen_values(model, linear)
        model.eval()
        _require_same_logits(model, head)
    finally:
        model.train(was_training)
    return head


def _head_by_chosen_values(model: Any, linear: nn.Linear) -> Head:
    hidden_1TH = _mixed_values(linear.in_features, spread=3.0).to(linear.weight)
    # In fp32 whatever the weights are in: half precision would show factor and cap to three digits.
    output_1TV = _mixed_values(linear.out_features, spread=12.0).to(linear.weight.device, torch.float32)
    calls: list[tuple[Tensor, Tensor]] = []

    def exchange(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        calls.append((inputs[0], output))
        return output_1TV

    # Some models (OPT, BART) call the decoder within their backbone, not the backbone itself.
    backbones = [model.base_model, *model.base_model.children()]
    with _hooked([linear], exchange), _hooked(backbones, _with_hidden_states(hidden_1TH)):
        logits_1TV = model(input_ids=_probe_ids(linear), use_cache=False).logits
    if len(calls) != 1 or calls[0][0].shape != hidden_1TH.shape:
        raise HeadUnfamiliar("the output layer is not called exactly once on the backbone's hidden states")
    seen_1TH, made_1TV = calls[0]
    product_1TV = nn.functional.linear(seen_1TH, linear.weight, linear.bias)
    if not torch.allclose(made_1TV, product_1TV, rtol=0.0, atol=0.0, equal_nan=True):
        raise HeadUnfamiliar("the output layer does more than a matrix product and a bias")
    factor = _near_one(_first(seen_1TH, 0) / _SMALL)
    if not _agree(seen_1TH, hidden_1TH * factor):
        raise HeadUnfamiliar("the hidden states are changed before the output layer by more than a factor")
    return Head(linear=linear, hidden_factor=factor, shape=_shape_of(output_1TV, logits_1TV))


def _shape_of(output_1TV: Tensor, logits_1TV: Tensor) -> LogitShape:
    """The factor shows at small values, the cap at enormous ones; all others must then agree."""
    scale, ceiling = _near_one(_first(logits_1TV, 0) / _SMALL), _first(logits_1TV, 1)
    shape = LogitShape(scale=scale, cap=ceiling if ceiling < 0.5 * scale * _ENORMOUS else None)
    expected_1TV = output_1TV.clone()
    if scale > 0 and shape.cap != 0:
        shape.apply_(expected_1TV)
        if _agree(logits_1TV, expected_1TV):
            return shape
    raise HeadUnfamiliar("the logits are changed after the output layer by more than a factor and a soft cap")


def _require_same_logits(model: Any, head: Head) -> None:
    """The backbone called on its own, and the head as found, give the model's own logits."""
    input_ids = _probe_ids(head.linear)
    hidden_1TH = getattr(model.base_model(input_ids=input_ids, use_cache=False), "last_hidden_state", None)
    if hidden_1TH is None:
        raise HeadUnfamiliar("the backbone gives no last hidden state")
    rebuilt_1TV = head.logits(hidden_1TH)
    logits_1TV = model(input_ids=input_ids, use_cache=False).logits
    # Weights that are no numbers are for those to refuse who run the model.
    largest = float(logits_1TV.nan_to_num(0.0, 0.0, 0.0).abs().max())
    # A division by a factor and a product with its inverse may round to neighbours.
    rounding = max(_RELATIVE_ROUNDING, 2.0 * torch.finfo(logits_1TV.dtype).eps)
    if not torch.allclose(
        rebuilt_1TV.to(logits_1TV.dtype), logits_1TV, rtol=rounding, atol=rounding * largest, equal_nan=True
    ):
        raise HeadUnfamiliar("the logits are not those of the backbone's hidden states")


def _mixed_values(width: int, *, spread: float) -> Tensor:
    """[1, T, width]; position 0 small, position 1 enormous, the others up to sinh(spread) of both signs."""
    num_values = (_PROBE_TOKENS - 2) * width
    values = torch.sinh(torch.linspace(-spread, spread, num_values, dtype=torch.float64))
    order = torch.randperm(num_values, generator=torch.Generator().manual_seed(0))
    mixed_TX = values[order].reshape(-1, width)
    ends_2X = torch.tensor([[_SMALL], [_ENORMOUS]], dtype=torch.float64).expand(2, width)
    return torch.cat([ends_2X, mixed_TX])[None]


def _with_hidden_states(hidden_1TH: Tensor) -> Callable[..., Any]:
    def exchange(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if hasattr(output, "last_hidden_state"):
            output["last_hidden_state"] = hidden_1TH
        return output

    return exchange


@contextmanager
def _hooked(modules: list[nn.Module], hook: Callable[..., Any]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _probe_ids(linear: nn.Linear) -> Tensor:
    return torch.arange(_PROBE_TOKENS, device=linear.weight.device)[None]


def _first(values_1TX: Tensor, position: int) -> float:
    return float(values_1TX[0, position, 0])


def _near_one(factor: float) -> float:
    """Dividing by a cap and multiplying with it again leaves a rounding error."""
    return 1.0 if abs(factor - 1.0) < 1e-6 else factor


def _agree(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found.to(expected.dtype), expected, rtol=_RELATIVE_ROUNDING, atol=0.0)
