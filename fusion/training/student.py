"""The target as it is trained: its backbone, its head, and the losses of a micro-batch."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fusion.training.batches import MicroBatch
from fusion.training.head import head_loss
from fusion.training.losses import LossSums, Objective, fusion_loss

_PROBE_TOKENS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Student:
    """A causal language model in training.

    `head` is its output layer where the logits are that layer and nothing else; the head then runs in the
    same pass as the loss. Otherwise `plain_reason` says why the model's own logits are used, at a cost in
    memory.
    """

    model: Any
    head: nn.Linear | None
    plain_reason: str | None = None

    def losses(self, batch: MicroBatch, *, objective: Objective) -> LossSums:
        """Sums over the rows of a micro-batch, differentiable in the model's parameters."""
        if self.head is None:
            logits_BTV = self.model(input_ids=batch.input_ids_BT, use_cache=False).logits
            return fusion_loss(_rows(logits_BTV, batch.rows_N), batch.targets, objective=objective)
        hidden_BTH = _backbone(self.model)(input_ids=batch.input_ids_BT, use_cache=False).last_hidden_state
        return head_loss(
            _rows(hidden_BTH, batch.rows_N),
            self.head.weight,
            self.head.bias,
            batch.targets,
            objective=objective,
        )


def make_student(model: Any) -> Student:
    """Find out whether head and loss can run in one pass, on a few tokens; then enter training mode."""
    model.eval()
    reason = _reason_against_fused_head(model)
    model.train()
    return Student(model=model, head=None if reason else model.get_output_embeddings(), plain_reason=reason)


@torch.no_grad()
def _reason_against_fused_head(model: Any) -> str | None:
    """Why the logits are not `head(backbone(x))`, or None where they are, bit for bit."""
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear:
        return f"the output layer is {type(head).__name__}, not a plain linear layer"
    seen: list[tuple[Tensor, Tensor]] = []
    hook = head.register_forward_hook(lambda _module, inputs, output: seen.append((inputs[0], output)))
    try:
        input_ids = torch.arange(_PROBE_TOKENS, device=head.weight.device).unsqueeze(0)
        logits = model(input_ids=input_ids, use_cache=False).logits
        hidden = getattr(_backbone(model)(input_ids=input_ids, use_cache=False), "last_hidden_state", None)
    finally:
        hook.remove()
    if len(seen) != 1 or hidden is None:
        return "the output layer is not called exactly once on the backbone's last hidden state"
    head_input, head_output = seen[0]
    if not torch.equal(head_input, hidden):
        return "the hidden states are changed before the output layer"
    if not torch.equal(head_output, logits):
        return "the logits are scaled or capped after the output layer"
    return None


def _backbone(model: Any) -> Any:
    return model.base_model


def _rows(values: Tensor, rows_N: Tensor) -> Tensor:
    return values.flatten(0, 1).index_select(0, rows_N)
