"""How well a source predicts a span of text: lower is better.

Letters: `T` target rows of a window, `N` rows of the source in it.
"""

import math

import numba
import numpy as np

from fusion.io.tensors import Array
from fusion.spec import BlendingSpec

_MIN_KNOWN_PERCENT = 90
_LEAST_LOGPROB = -1e4
"""Running sums cannot hold an infinity: inf - inf is no number."""
_GRANULARITY = {"sequence": 0, "window": 1, "token": 2}


def score_rows(
    target_ends: Array, source_ends: Array, source_logprobs: Array, *, spec: BlendingSpec
) -> Array:
    """Score of one source at every target row of a window.

    The score is that of the span around the row: the whole window (`sequence`), the run of `window_bytes`
    bytes in which the row's next token begins (`window`), or all tokens within half of `window_bytes` on
    either side but the row's own (`token`): with its own it would reward luck on one token. A span in which
    no token of the source begins is scored as the whole window.

    Scores are compared between sources, so they must be of the same bytes: of the bytes that a span's tokens
    spell, those with a known log-probability must be at least 90 %, else the score there is inf.

    Args:
        target_ends: [T]; bytes of the window consumed before the next token of each target row.
        source_ends: [N]; the same for the source's rows.
        source_logprobs: [N]; log-probability of the actual next token, NaN where there is none; anything
            below -10^4, -inf too, counts as -10^4.

    Returns:
        float32 [T]: bits per byte, or nats per source token under `ce_per_token`; inf where the source
        predicts nothing in the whole window, or too little of the span.
    """
    scores: Array = _score_rows(
        np.ascontiguousarray(target_ends, np.int64),
        np.ascontiguousarray(source_ends, np.int64),
        np.ascontiguousarray(source_logprobs, np.float32),
        _GRANULARITY[spec.granularity],
        spec.window_bytes,
        spec.score == "bits_per_byte",
    )
    return scores


@numba.njit("float64(float64, int64, int64, int64, boolean)", cache=True, nogil=True)
def _score(nats: float, num_bytes: int, num_spelled: int, num_tokens: int, per_byte: bool) -> float:
    if 100 * num_bytes < _MIN_KNOWN_PERCENT * num_spelled:
        return np.inf
    if per_byte:
        return nats / (num_bytes * math.log(2.0)) if num_bytes > 0 else np.inf
    return nats / num_tokens if num_tokens > 0 else np.inf


@numba.njit(
    "float32[::1](int64[::1], int64[::1], float32[::1], int64, int64, boolean)", cache=True, nogil=True
)
def _score_rows(
    target_ends: Array,
    source_ends: Array,
    logprobs: Array,
    granularity: int,
    window_bytes: int,
    per_byte: bool,
) -> Array:
    num_rows = len(source_ends)
    # Running sums before each source row, so that any span costs one subtraction.
    nats = np.zeros(num_rows + 1, np.float64)
    num_bytes = np.zeros(num_rows + 1, np.int64)
    num_spelled = np.zeros(num_rows + 1, np.int64)
    num_tokens = np.zeros(num_rows + 1, np.int64)
    for row in range(num_rows):
        known = not np.isnan(logprobs[row])
        spelled = source_ends[row + 1] - source_ends[row] if row + 1 < num_rows else 0
        nats[row + 1] = nats[row] - max(logprobs[row], _LEAST_LOGPROB) if known else nats[row]
        num_bytes[row + 1] = num_bytes[row] + (spelled if known else 0)
        num_spelled[row + 1] = num_spelled[row] + spelled
        num_tokens[row + 1] = num_tokens[row] + (1 if known else 0)
    whole = _score(nats[-1], num_bytes[-1], num_spelled[-1], num_tokens[-1], per_byte)
    scores = np.full(len(target_ends), np.float32(whole))
    if granularity == 0:
        return scores
    half = window_bytes // 2
    for i in range(len(target_ends)):
        end = target_ends[i]
        first = end // window_bytes * window_bytes if granularity == 1 else end - half
        last = first + window_bytes - 1 if granularity == 1 else end + half
        start, stop = np.searchsorted(source_ends, first), np.searchsorted(source_ends, last, side="right")
        span_nats = nats[stop] - nats[start]
        span_bytes = num_bytes[stop] - num_bytes[start]
        span_spelled = num_spelled[stop] - num_spelled[start]
        span_tokens = num_tokens[stop] - num_tokens[start]
        if granularity == 2:
            own, after = np.searchsorted(source_ends, end), np.searchsorted(source_ends, end, side="right")
            span_nats -= nats[after] - nats[own]
            span_bytes -= num_bytes[after] - num_bytes[own]
            span_spelled -= num_spelled[after] - num_spelled[own]
            span_tokens -= num_tokens[after] - num_tokens[own]
        span = _score(span_nats, span_bytes, span_spelled, span_tokens, per_byte)
        if span_spelled > 0 or not np.isinf(span):
            scores[i] = np.float32(span)
    return scores
