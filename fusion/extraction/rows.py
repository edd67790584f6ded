"""What is kept of a row of logits: the top, the mass below it, the actual next token.

Letters: `R` rows, `V` valid ids, `K` kept entries, `M` tail samples, `C` candidates for the top.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK_IDS = 64
"""Ids whose maximum is taken first: the top K lie in the K blocks with the greatest maxima."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptRows:
    """Rows on the device, natural logarithms, normalised over the valid ids.

    is_finite: bool [R]; false where a logit was NaN or +inf. All other fields of such a row are NaN or 0.
    top_ids, top_logprobs: int64 and float32 [R, K]; most likely first.
    tail_logprobs: float32 [R]; log of the mass outside the top K, -inf where there is none.
    next_logprobs: float32 [R]; NaN where no next token is known.
    sample_ids: int64 [R, M]; draws from the tail, 0 where it is empty.
    """

    is_finite: Tensor
    top_ids: Tensor
    top_logprobs: Tensor
    tail_logprobs: Tensor
    next_logprobs: Tensor
    sample_ids: Tensor


def keep_rows(logits_RV: Tensor, *, next_ids_R: Tensor, top_k: int, uniforms_RM: Tensor) -> KeptRows:
    """Reduce logits to what a capture stores.

    The tail is the log-sum-exp of the ids outside the top, never `1 - sum(top)`, which cancels where the
    top holds nearly all of the mass. No id outside exceeds the last of the top, so with the top cut down to
    that value one softmax gives the tail at full precision, however small it is.

    Args:
        logits_RV: over valid ids only; any float type, computed with in float32.
        next_ids_R: int64 [R]; -1 where unknown.
        top_k: at most V entries are kept.
        uniforms_RM: float64 in [0, 1), one per tail sample; M may be 0.
    """
    logits_RV = logits_RV.float()
    top_values_RK, top_ids_RK = _top(logits_RV, top_k)
    # Finite also where fewer than K ids have any mass.
    shift_R1 = top_values_RK[:, -1:].clamp(min=torch.finfo(torch.float32).min)
    rest_RV = torch.softmax(logits_RV.clamp(max=shift_R1), dim=-1)
    # The first of the top stands at the shift itself: its share turns the others back into logits.
    share_R = rest_RV.gather(-1, top_ids_RK[:, :1])[:, 0]
    rest_RV = rest_RV.scatter_(-1, top_ids_RK, 0.0)
    rest_lse_R = shift_R1[:, 0] + (rest_RV.sum(dim=-1) / share_R).log()
    lse_R = torch.logsumexp(torch.cat([top_values_RK, rest_lse_R[:, None]], dim=-1), dim=-1)
    # A logit of -inf is an honest zero; NaN and +inf show in the sum.
    is_finite_R = torch.isfinite(lse_R)
    nan = torch.tensor(float("nan"), device=logits_RV.device)
    next_logits_R = logits_RV.gather(-1, next_ids_R.clamp(min=0)[:, None])[:, 0]
    tail_R = rest_lse_R - lse_R
    return KeptRows(
        is_finite=is_finite_R,
        top_ids=torch.where(is_finite_R[:, None], top_ids_RK, 0),
        top_logprobs=torch.where(is_finite_R[:, None], top_values_RK - lse_R[:, None], nan),
        tail_logprobs=torch.where(is_finite_R, tail_R, nan),
        next_logprobs=torch.where(is_finite_R & (next_ids_R >= 0), next_logits_R - lse_R, nan),
        sample_ids=_sample(
            rest_RV, is_drawable_R=torch.isfinite(tail_R) & is_finite_R, uniforms_RM=uniforms_RM
        ),
    )


def _top(logits_RV: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """(values, ids) [R, K], greatest first: `topk` over the few blocks that can hold them, much faster."""
    num_ids = logits_RV.shape[-1]
    num_blocks = num_ids // _BLOCK_IDS
    if num_blocks <= top_k:
        values_RK, ids_RK = torch.topk(logits_RV, min(top_k, num_ids), dim=-1)
        return values_RK, ids_RK
    num_blocked = num_blocks * _BLOCK_IDS
    maxima = logits_RV[:, :num_blocked].unflatten(-1, (num_blocks, _BLOCK_IDS)).amax(dim=-1)
    blocks_RK = torch.topk(maxima, top_k, dim=-1).indices
    device = logits_RV.device
    blocked_RC = (blocks_RK[:, :, None] * _BLOCK_IDS + torch.arange(_BLOCK_IDS, device=device)).flatten(1)
    others_RC = torch.arange(num_blocked, num_ids, device=device).expand(len(logits_RV), -1)
    candidates_RC = torch.cat([blocked_RC, others_RC], dim=-1)
    values_RK, places_RK = torch.topk(logits_RV.gather(-1, candidates_RC), top_k, dim=-1)
    return values_RK, candidates_RC.gather(-1, places_RK)


def _sample(rest_RV: Tensor, *, is_drawable_R: Tensor, uniforms_RM: Tensor) -> Tensor:
    """Draw ids in proportion to the rest by inverting the distribution function.

    Reference: Anshumann et al., Sparse Logit Sampling, https://arxiv.org/abs/2503.16870
    """
    if uniforms_RM.shape[1] == 0:
        return torch.zeros_like(uniforms_RM, dtype=torch.int64)
    cumulative_RV = rest_RV.double().cumsum(dim=-1)
    total_R1 = cumulative_RV[:, -1:]
    below_total_RM = torch.minimum(
        uniforms_RM * total_R1, torch.nextafter(total_R1, torch.zeros_like(total_R1))
    )
    # The first id whose cumulative mass exceeds the draw always has mass of its own.
    ids_RM = torch.searchsorted(cumulative_RV, below_total_RM, right=True)
    return torch.where(is_drawable_R[:, None], ids_RM, 0)
