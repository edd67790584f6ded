"""What is kept of a row of logits.

Letters: `R` rows, `K` kept entries, `M` tail samples.
"""

from dataclasses import dataclass

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
