"""The top, the mass below it and the next token of rows of logits, by torch: what runs on a GPU.

Letters: `R` rows, `V` valid ids, `K` kept entries, `M` tail samples, `C` candidates for the top.
"""

import torch
from torch import Tensor

from fusion.extraction.kept_rows import KeptRows

_BLOCK_IDS = 64
"""Ids whose maximum is taken first: the top K lie in the K blocks with the greatest maxima."""


def keep_on_device(logits_RV: Tensor, *, next_ids_R: Tensor, top_k: int, uniforms_RM: Tensor) -> KeptRows:
    """`keep_rows` on any device: no id outside the top exceeds its last, so with the top cut down to that
    value one softmax gives the tail at full precision, however small it is."""
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
    """(values, ids) [R, K], greatest first, the lower id first among equals.

    `topk` promises no order among equals, hence keys that differ; they are made only of the few blocks that
    can hold the top, which is also much faster.
    """
    num_rows, num_ids = logits_RV.shape
    num_blocked = num_ids // _BLOCK_IDS * _BLOCK_IDS
    device = logits_RV.device
    candidates_RC = torch.arange(num_ids, device=device).expand(num_rows, -1)
    if num_blocked > top_k * _BLOCK_IDS:
        maxima = logits_RV[:, :num_blocked].unflatten(-1, (-1, _BLOCK_IDS)).amax(dim=-1)
        blocks_RK = torch.topk(_distinct_keys(maxima), top_k, dim=-1).indices
        inside = torch.arange(_BLOCK_IDS, device=device)
        # Ascending, so that the place among the candidates orders equals as the id does.
        blocked_RC = (blocks_RK.sort(dim=-1).values[:, :, None] * _BLOCK_IDS + inside).flatten(1)
        candidates_RC = torch.cat([blocked_RC, candidates_RC[:, num_blocked:]], dim=-1)
    keys_RC = _distinct_keys(logits_RV.gather(-1, candidates_RC))
    places_RK = torch.topk(keys_RC, min(top_k, num_ids), dim=-1).indices
    top_ids_RK = candidates_RC.gather(-1, places_RK)
    return logits_RV.gather(-1, top_ids_RK), top_ids_RK


def _distinct_keys(values_RC: Tensor) -> Tensor:
    """int64 [R, C] in the order of the float32 values, the earlier column above its equals."""
    bits = values_RC.contiguous().view(torch.int32)
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    columns = torch.arange(values_RC.shape[-1], device=values_RC.device)
    return (ordered << 32) + (0xFFFFFFFF - columns)


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
