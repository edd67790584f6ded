"""The target as it is trained: its backbone, its head, and the losses of a micro-batch."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fusion.llms.head_probe import Head, HeadUnfamiliar, probe_head
from fusion.training.batches import MicroBatch
from fusion.training.head import head_loss
from fusion.training.losses import LossSums, Objective, fusion_loss


@dataclass(frozen=True, kw_only=True, slots=True)
class Student:
    """A causal language model in training.

    `head` is its output layer where the logits are that layer, a factor and a soft cap; the head then runs in
    the same pass as the loss. Otherwise `plain_reason` says why the model's own logits are used, at a cost in
    memory.
    """

    model: Any
    head: Head | None
    plain_reason: str | None = None

    def losses(self, batch: MicroBatch, *, objective: Objective) -> LossSums:
        """Sums over the rows of a micro-batch, differentiable in the model's parameters."""
        if self.head is None:
            logits_BTV = self.model(input_ids=batch.input_ids_BT, use_cache=False).logits
            return fusion_loss(_rows(logits_BTV, batch.rows_N), batch.targets, objective=objective)
        backbone = self.model.base_model
        hidden_BTH = backbone(input_ids=batch.input_ids_BT, use_cache=False).last_hidden_state
        hidden_NH = _rows(hidden_BTH, batch.rows_N)
        if self.head.hidden_factor != 1.0:
            hidden_NH = hidden_NH * self.head.hidden_factor
        return head_loss(
            hidden_NH,
            self.head.linear.weight,
            self.head.linear.bias,
            batch.targets,
            objective=objective,
            shape=self.head.shape,
        )


def make_student(model: Any) -> Student:
    """Find out whether head and loss can run in one pass, on a few tokens; then enter training mode."""
    head, reason = None, None
    try:
        head = probe_head(model)
    except HeadUnfamiliar as error:
        reason = str(error)
    model.train()
    return Student(model=model, head=head, plain_reason=reason)


def _rows(values: Tensor, rows_N: Tensor) -> Tensor:
    return values.flatten(0, 1).index_select(0, rows_N)
