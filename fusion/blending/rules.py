"""Who speaks at a row, and with what share.

Letters: `S` speakers in the order of `spec.speaker_names`, `T` target rows.
"""

from collections.abc import Sequence

import numpy as np

from fusion.io.tensors import Array
from fusion.spec import BlendingSpec


def share_out(scores_ST: Array, *, spec: BlendingSpec, speaker_names: Sequence[str]) -> Array:
    """Share of every speaker at every row.

    `min_ce`: all to the best score, the first of equals. `avg_ce`: softmax(-score / temperature), or what the
    reference computes, softmax(exp(-score) / temperature). `weighted`: the spec's weights.

    Args:
        scores_ST: [S, T]; lower is better, inf where a speaker predicts nothing.

    Returns:
        float32 [S, T]; each column adds to 1, or to 0 where nobody has a score.

    Reference: Wan et al., Knowledge Fusion of Large Language Models, https://arxiv.org/abs/2401.10491
    """
    heard_ST = np.isfinite(scores_ST)
    scores_ST = scores_ST.astype(np.float64)
    if spec.rule == "min_ce":
        best_T = np.argmin(np.where(heard_ST, scores_ST, np.inf), axis=0)
        shares_ST = np.zeros(scores_ST.shape)
        shares_ST[best_T, np.arange(scores_ST.shape[1])] = 1.0
        return np.asarray((shares_ST * heard_ST).astype(np.float32))
    if spec.rule == "weighted":
        given = spec.weights or {}
        shares_ST = np.array([given[name] for name in speaker_names])[:, None] * heard_ST
    else:
        rewards_ST = np.exp(-scores_ST) if spec.avg_ce_weights == "softmax_exp_negative" else -scores_ST
        logits_ST = np.where(heard_ST, rewards_ST / spec.temperature, -np.inf)
        highest_T = np.max(logits_ST, axis=0, initial=-np.inf)
        shares_ST = np.exp(logits_ST - np.where(np.isfinite(highest_T), highest_T, 0.0))
    totals_T = sum_over_speakers(shares_ST)
    return np.asarray((shares_ST / np.where(totals_T > 0.0, totals_T, 1.0)).astype(np.float32))


def sum_over_speakers(values_ST: Array) -> Array:
    """[T]; sums that are the same to the last bit whatever order the speakers come in. [S, T]"""
    return np.asarray(np.sort(values_ST, axis=0).sum(axis=0))


def target_is_better(target_scores_T: Array, source_scores_ST: Array) -> Array:
    """bool [T]; rows where the target scores strictly lower than every source."""
    return np.asarray(target_scores_T < np.min(source_scores_ST, axis=0, initial=np.inf))
