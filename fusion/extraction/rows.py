"""What is kept of a row of logits: the top, the mass below it, the actual next token.

Letters: `R` rows, `V` valid ids, `M` tail samples.
"""

from torch import Tensor

from fusion.extraction.compiled_rows import keep_compiled
from fusion.extraction.device_rows import keep_on_device
from fusion.extraction.kept_rows import KeptRows


def keep_rows(logits_RV: Tensor, *, next_ids_R: Tensor, top_k: int, uniforms_RM: Tensor) -> KeptRows:
    """Reduce logits to what a capture stores, where they are: the full logits never leave a device.

    The tail is the log-sum-exp of the ids outside the top, never `1 - sum(top)`, which cancels where the
    top holds nearly all of the mass. Of equal logits the one with the lower id comes first.

    Args:
        logits_RV: over valid ids only; any float type, computed with in float32.
        next_ids_R: int64 [R]; -1 where unknown.
        top_k: at most V entries are kept.
        uniforms_RM: float64 in [0, 1), one per tail sample; M may be 0.
    """
    keep = keep_compiled if logits_RV.device.type == "cpu" else keep_on_device
    return keep(logits_RV, next_ids_R=next_ids_R, top_k=top_k, uniforms_RM=uniforms_RM)
