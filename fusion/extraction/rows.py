"""What is kept of a row of logits: the top, the mass below it, the actual next token.

Letters: `R` rows, `V` valid ids, `K` kept entries, `M` tail samples.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


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
    top holds nearly all of the mass.

    Args:
        logits_RV: over valid ids only; any float type, computed with in float32.
        next_ids_R: int64 [R]; -1 where unknown.
        top_k: at most V entries are kept.
        uniforms_RM: float64 in [0, 1), one per tail sample; M may be 0.
    """
    logits_RV = logits_RV.float()
    lse_R = torch.logsumexp(logits_RV, dim=-1)
    # A logit of -inf is an honest zero; NaN and +inf show in the sum.
    is_finite_R = torch.isfinite(lse_R)
    nan = torch.tensor(float("nan"), device=logits_RV.device)
    top = torch.topk(logits_RV, min(top_k, logits_RV.shape[-1]), dim=-1)
    next_logits_R = logits_RV.gather(-1, next_ids_R.clamp(min=0)[:, None])[:, 0]
    rest_RV = logits_RV.scatter(-1, top.indices, float("-inf"))
    tail_R = torch.logsumexp(rest_RV, dim=-1) - lse_R
    return KeptRows(
        is_finite=is_finite_R,
        top_ids=torch.where(is_finite_R[:, None], top.indices, 0),
        top_logprobs=torch.where(is_finite_R[:, None], top.values - lse_R[:, None], nan),
        tail_logprobs=torch.where(is_finite_R, tail_R, nan),
        next_logprobs=torch.where(is_finite_R & (next_ids_R >= 0), next_logits_R - lse_R, nan),
        sample_ids=_sample(
            rest_RV, is_drawable_R=torch.isfinite(tail_R) & is_finite_R, uniforms_RM=uniforms_RM
        ),
    )


def _sample(rest_RV: Tensor, *, is_drawable_R: Tensor, uniforms_RM: Tensor) -> Tensor:
    """Draw ids in proportion to exp(rest) by inverting the distribution function.

    Reference: Anshumann et al., Sparse Logit Sampling, https://arxiv.org/abs/2503.16870
    """
    if uniforms_RM.shape[1] == 0:
        return torch.zeros_like(uniforms_RM, dtype=torch.int64)
    cumulative_RV = torch.softmax(rest_RV.double(), dim=-1).cumsum(dim=-1)
    total_R1 = cumulative_RV[:, -1:]
    below_total_RM = torch.minimum(
        uniforms_RM * total_R1, torch.nextafter(total_R1, torch.zeros_like(total_R1))
    )
    # The first id whose cumulative mass exceeds the draw always has mass of its own.
    ids_RM = torch.searchsorted(cumulative_RV, below_total_RM, right=True)
    return torch.where(is_drawable_R[:, None], ids_RM, 0)
