"""One pass over the head for CLM and fusion together, a few rows at a time.

The logits of all rows never exist at once: each chunk of rows is multiplied with the head, turned into its
losses and, in the same buffer, into its gradient `a * softmax(z) - targets`, which is multiplied back.
So the head costs the three matrix products of plain training and no `[N, V]` tensor.

A factor or a soft cap on the logits (`LogitShape`) is applied within the chunk, forth and back.

Letters: `N` rows, `C` rows of a chunk, `H` width, `V` vocabulary of the head, `K` kept entries of a row.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from fusion.llms.logit_shape import LogitShape
from fusion.training.losses import (
    NO_ID,
    LossSums,
    Objective,
    RowTargets,
    log1mexp,
    log_mass,
    max_log_mass,
    row_entropy,
    target_masses,
    upcast,
)

_CHUNK_BYTES = {"cpu": 32 << 20}
_CHUNK_BYTES_ON_ACCELERATOR = 1 << 30
"""Every chunk reads and writes the whole gradient of the weight, about 12 bytes per element in bf16, against
6 FLOP per element and row: with fewer than about 2,000 rows an accelerator waits for that memory."""
_MIN_CHUNK_ROWS = 32
_PLAIN = LogitShape()


def head_loss(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    targets: RowTargets,
    *,
    objective: Objective,
    shape: LogitShape = _PLAIN,
    chunk_rows: int | None = None,
) -> LossSums:
    """`fusion_loss(shape(linear(hidden, weight, bias)), targets)` without ever holding the logits.

    Under autocast the matrix products run in its type and the softmax in fp32; the weight's gradient is
    summed in the weight's own type.

    All rows of the weight take part in the softmax, as in plain training: also those that pad the head beyond
    the tokenizer's ids.

    Args:
        shape: what becomes of the layer's output before it is logits.
        chunk_rows: rows per pass over the head; by device and vocabulary size when not given.
    """
    rows = chunk_rows or default_chunk_rows(weight_VH.shape[0], hidden_NH.device)
    total, fusion, clm_N = _HeadLoss.apply(hidden_NH, weight_VH, bias_V, targets, objective, shape, rows)
    return LossSums(total=total, fusion=fusion, clm_N=clm_N)


def default_chunk_rows(vocabulary_size: int, device: torch.device) -> int:
    """Rows whose fp32 logits fill the chunk buffer: small for the caches, large for the matmul."""
    budget = _CHUNK_BYTES.get(device.type, _CHUNK_BYTES_ON_ACCELERATOR)
    return max(_MIN_CHUNK_ROWS, budget // (4 * vocabulary_size))


class _HeadLoss(torch.autograd.Function):
    """Losses and gradients in one sweep; backward only scales what forward has summed."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        targets: RowTargets,
        objective: Objective,
        shape: LogitShape,
        chunk_rows: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        device = hidden_NH.device.type
        autocast_dtype = _autocast_dtype(device)
        # Under autocast every operation below would choose a type of its own.
        with nullcontext() if autocast_dtype is None else torch.autocast(device, enabled=False):
            sweep = _Sweep(hidden_NH, weight_VH, bias_V, shape=shape, dtype=autocast_dtype or weight_VH.dtype)
            losses = [
                sweep.chunk(start, targets.rows(start, start + chunk_rows), objective)
                for start in range(0, len(hidden_NH), chunk_rows)
            ]
        ctx.save_for_backward(sweep.grad_hidden_NH, sweep.grad_weight_VH, sweep.grad_bias_V)
        empty = hidden_NH.new_zeros(0, dtype=torch.float32)
        clm_N = torch.cat([empty, *(clm_C for clm_C, _ in losses)])
        fusion = torch.cat([empty, *(fusion_C for _, fusion_C in losses)]).sum(dtype=torch.float64)
        clm = (objective.clm_weights(targets) * clm_N).sum(dtype=torch.float64)
        ctx.mark_non_differentiable(fusion, clm_N)
        return clm + objective.fusion_weight * fusion, fusion, clm_N

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        # In place: with a large vocabulary a second copy of the weight's gradient would not fit.
        grads = (None if grad is None else grad.mul_(grad_total.to(grad.dtype)) for grad in ctx.saved_tensors)
        return (*grads, None, None, None, None)


def _autocast_dtype(device: str) -> torch.dtype | None:
    """The type autocast asks for, None where it is off."""
    is_on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if is_on else None


class _Sweep:
    """The head, and the gradients it has gathered so far."""

    def __init__(
        self,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        *,
        shape: LogitShape,
        dtype: torch.dtype,
    ) -> None:
        self.hidden_NH = hidden_NH.to(dtype)
        self.weight_VH = weight_VH.to(dtype)
        self.bias_V = None if bias_V is None else bias_V.to(dtype)
        self.shape = shape
        self.grad_hidden_NH = torch.empty_like(hidden_NH)
        self.grad_weight_VH = torch.zeros_like(weight_VH)
        self.grad_bias_V = None if bias_V is None else torch.zeros_like(bias_V)

    def chunk(self, start: int, targets: RowTargets, objective: Objective) -> tuple[Tensor, Tensor]:
        """Add the gradients of one chunk; return CLM and divergence of its rows."""
        hidden_CH = self.hidden_NH[start : start + len(targets.label_ids_N)]
        z_CV = upcast(torch.nn.functional.linear(hidden_CH, self.weight_VH, self.bias_V))
        slope_CV = self.shape.apply_with_slope_(z_CV)
        clm_C, fusion_C = losses_and_gradient_(z_CV, targets, objective)
        self.shape.gradient_(z_CV, slope_CV)
        grad_CV = z_CV.to(self.weight_VH.dtype)
        self.grad_hidden_NH[start : start + len(hidden_CH)] = grad_CV @ self.weight_VH
        if grad_CV.dtype == self.grad_weight_VH.dtype:
            self.grad_weight_VH.addmm_(grad_CV.T, hidden_CH)
        else:
            self.grad_weight_VH += grad_CV.T @ hidden_CH
        if self.grad_bias_V is not None:
            self.grad_bias_V += z_CV.sum(dim=0)
        return clm_C, fusion_C


def losses_and_gradient_(z_CV: Tensor, targets: RowTargets, objective: Objective) -> tuple[Tensor, Tensor]:
    """Per-row CLM and divergence; `z_CV` is overwritten by the gradient of their weighted sum.

    With q = softmax(z), Q = sum_S q and r = t / (1 - Q), the row's gradient is
    `clm_weight * (q - onehot) + fusion_weight * ((s - r * Q) * q - (w - r * q)_S)`; r is 0 without a bucket.
    """
    labelled_C = targets.label_ids_N != NO_ID
    label_C1 = targets.label_ids_N.clamp(min=0).unsqueeze(-1)
    ids_CK = targets.entry_ids_NK.clamp(min=0)
    z_label_C = z_CV.gather(-1, label_C1).squeeze(-1)
    z_CK = z_CV.gather(-1, ids_CK)

    highest_C = z_CV.amax(dim=-1)
    denominator_C = z_CV.sub_(highest_C.unsqueeze(-1)).exp_().sum(dim=-1)
    lse_C = highest_C + denominator_C.log()
    clm_C = torch.where(labelled_C, lse_C - z_label_C, 0.0)
    clm_weight_C = objective.clm_weights(targets).to(z_CV.dtype) * labelled_C
    scale_C = clm_weight_C
    fusion_C = torch.zeros_like(clm_C)
    pull_CK = None
    if objective.fusion_weight:
        fusion_C, fusion_scale_C, pull_CK = _divergence(z_CK, lse_C, targets, objective)
        scale_C = scale_C + objective.fusion_weight * fusion_scale_C

    z_CV.mul_((scale_C / denominator_C).unsqueeze(-1))
    if pull_CK is not None:
        z_CV.scatter_add_(-1, ids_CK, -objective.fusion_weight * pull_CK)
    z_CV.scatter_add_(-1, label_C1, -clm_weight_C.unsqueeze(-1))
    return clm_C, fusion_C


def _divergence(
    z_CK: Tensor, lse_C: Tensor, targets: RowTargets, objective: Objective
) -> tuple[Tensor, Tensor, Tensor]:
    """Divergence [C], its gradient's factor of softmax [C], and what comes off at the entries [C, K]."""
    masses = target_masses(
        targets.entry_ids_NK,
        targets.entry_weights_NK.to(z_CK.dtype),
        tail=objective.tail,
        tails=targets.tails_N,
    )
    loss_C = masses.s_N * lse_C - (masses.w_NK * z_CK).sum(dim=-1)
    scale_C, pull_CK = masses.s_N, masses.w_NK
    if objective.tail == "bucket":
        logprobs_CK = z_CK - lse_C.unsqueeze(-1)
        log_mass_C = log_mass(logprobs_CK, masses.used_NK)
        limit = max_log_mass(log_mass_C.dtype)
        log_rest_C = log1mexp(log_mass_C.clamp(max=limit))
        loss_C = loss_C - masses.t_N * log_rest_C
        # Where the mass is clamped the bucket term is constant.
        r_C = torch.where(log_mass_C <= limit, masses.t_N * torch.exp(-log_rest_C), 0.0)
        scale_C = scale_C - r_C * log_mass_C.exp()
        pull_CK = pull_CK - r_C.unsqueeze(-1) * logprobs_CK.exp() * masses.used_NK
    if objective.divergence == "kl":
        loss_C = loss_C - row_entropy(masses)
    return loss_C, scale_C, pull_CK
