"""The top, the mass below it and the next token of rows of logits, compiled: what runs on a CPU.

A row is read from memory once: it stays in a core's cache while the maxima of its blocks, its top and the
mass of the rest are found. Rows are independent and the compiled loops hold no lock, so threads share the
work by calling `keep_compiled` on rows of their own.

Letters: `R` rows, `V` valid ids, `K` kept entries, `M` tail samples.
"""

import math
from typing import Any

import numba
import numpy as np
import torch
from numba.extending import intrinsic
from torch import Tensor

from fusion.extraction.kept_rows import KeptRows
from fusion.io.tensors import Array

Scalar = Any
"""A number of NumPy, whose static types do not survive arithmetic."""

_BLOCK_IDS = 128
"""Ids whose maximum is taken first: the top K lie in blocks whose maximum is among the K greatest."""
_LOWEST_KEY = np.int32(-(1 << 31))
_INFINITY_BITS = np.int32(0x7F800000)
_LOWEST = np.finfo(np.float32).min

# 2**f for |f| <= 1/2, to the precision of float32. Reference: the series of exp(f ln 2), six terms.
_C0, _C1, _C2, _C3, _C4, _C5, _C6 = (np.float32(math.log(2) ** n / math.factorial(n)) for n in range(7))
_LOG2_E: Scalar = np.float32(1.0 / math.log(2))
_LEAST_EXPONENT: Scalar = np.float32(-127.0)
_HALF: Scalar = np.float32(0.5)

_ANY_ORDER = {"contract", "reassoc", "nsz"}
"""Sums may be taken in the order that fills vector registers; NaN and infinity keep their meaning."""


def keep_compiled(logits_RV: Tensor, *, next_ids_R: Tensor, top_k: int, uniforms_RM: Tensor) -> KeptRows:
    """`keep_rows` on a CPU, on the calling thread alone. Logits in float32 are changed and restored."""
    logits = logits_RV.float()
    logits = logits if logits.stride(-1) == 1 else logits.contiguous()
    num_rows, num_ids = logits.shape
    num_kept = min(top_k, num_ids)
    kept = KeptRows(
        is_finite=torch.zeros(num_rows, dtype=torch.bool),
        top_ids=torch.zeros((num_rows, num_kept), dtype=torch.int64),
        top_logprobs=torch.full((num_rows, num_kept), torch.nan),
        tail_logprobs=torch.full((num_rows,), torch.nan),
        next_logprobs=torch.full((num_rows,), torch.nan),
        sample_ids=torch.zeros(uniforms_RM.shape, dtype=torch.int64),
    )
    if num_rows == 0:
        return kept
    if int(next_ids_R.max()) >= num_ids:
        raise IndexError(f"next id {int(next_ids_R.max())} is not among the {num_ids} valid ids")
    # Padding columns of the head lie between the rows: the loops see one flat piece of memory.
    flat = logits.as_strided((logits.stride(0) * (num_rows - 1) + num_ids,), (1,)).numpy()
    _keep(
        flat,
        flat.view(np.int32),
        logits.stride(0),
        num_ids,
        next_ids_R.contiguous().numpy(),
        uniforms_RM.contiguous().numpy(),
        kept.is_finite.numpy(),
        kept.top_ids.numpy(),
        kept.top_logprobs.numpy(),
        kept.tail_logprobs.numpy(),
        kept.next_logprobs.numpy(),
        kept.sample_ids.numpy(),
    )
    return kept


@intrinsic
def _float_of_bits(_typing: Any, bits: Any) -> Any:
    """The float32 with the bits of an int32."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(numba.float32))

    return numba.float32(numba.int32), generate


@numba.njit("int32(int32)", cache=True, nogil=True, inline="always")
def _key(bits: Scalar) -> Scalar:
    """An integer in the order of the floats with these bits."""
    return np.int32(bits ^ ((bits >> 31) & 0x7FFFFFFF))


@numba.njit(nogil=True, inline="always")
def _exp2(exponent: Scalar) -> Scalar:
    """2**exponent for an exponent of at most 0; 0 below the least normal number."""
    bounded = max(exponent, _LEAST_EXPONENT)
    whole = np.int32(bounded - _HALF)
    part = bounded - np.float32(whole)
    power = _C0 + part * (_C1 + part * (_C2 + part * (_C3 + part * (_C4 + part * (_C5 + part * _C6)))))
    return power * _float_of_bits(np.int32((whole + np.int32(127)) << np.int32(23)))


@numba.njit("float32(float32[::1], float32)", cache=True, nogil=True, fastmath=_ANY_ORDER)
def _mass(logits: Array, shift: float) -> Scalar:
    """Sum of exp(logits - shift); no logit exceeds the shift."""
    total = np.float32(0.0)
    for place in range(logits.size):
        total += _exp2((logits[place] - shift) * _LOG2_E)
    return total


@numba.njit("boolean(int32[::1], int32[::1])", cache=True, nogil=True)
def _find_maxima(bits: Array, maxima: Array) -> Scalar:
    """Write the greatest key of every block; returns whether the row holds NaN or +inf."""
    worst = np.int32(0)
    for block in range(maxima.size):
        greatest, largest = _LOWEST_KEY, np.int32(0)
        piece = bits[block * _BLOCK_IDS : (block + 1) * _BLOCK_IDS]
        for place in range(piece.size):
            value = piece[place]
            greatest = max(greatest, np.int32(value ^ ((value >> 31) & 0x7FFFFFFF)))
            largest = max(largest, np.int32(value & 0x7FFFFFFF))
        maxima[block] = greatest
        worst = max(worst, np.int32(largest if largest > _INFINITY_BITS else greatest))
    return worst >= _INFINITY_BITS


@numba.njit("int64(int32, int64, int32[::1], int64[::1], int64)", cache=True, nogil=True)
def _insert(key: int, place: int, keys: Array, places: Array, count: int) -> int:
    """Put a key into the descending list of the greatest, behind its equals; returns how many it holds."""
    if count == keys.size and key <= keys[count - 1]:
        return count
    at = min(count, keys.size - 1)
    while at > 0 and keys[at - 1] < key:
        keys[at], places[at] = keys[at - 1], places[at - 1]
        at -= 1
    keys[at], places[at] = key, place
    return min(count + 1, keys.size)


@numba.njit("void(int32[::1], int32[::1], int32[::1], int64[::1])", cache=True, nogil=True)
def _find_top(bits: Array, maxima: Array, keys: Array, top_ids: Array) -> None:
    """Ids with the greatest keys, the lower id first among equals."""
    count = 0
    for block in range(maxima.size):
        count = _insert(maxima[block], block, keys, top_ids, count)
    # So many blocks hold a key of at least this one each, hence the top lies at or above it.
    least = keys[count - 1] if count == keys.size else _LOWEST_KEY
    count = 0
    for block in range(maxima.size):
        if maxima[block] < least:
            continue
        for place in range(block * _BLOCK_IDS, min(bits.size, (block + 1) * _BLOCK_IDS)):
            key = _key(bits[place])
            if key >= least:
                count = _insert(key, place, keys, top_ids, count)
                if count == keys.size:
                    least = keys[count - 1]


@numba.njit("void(float32[::1], float32, float64[::1], float64[::1], int64[::1])", cache=True, nogil=True)
def _sample(logits: Array, shift: float, masses: Array, uniforms: Array, sample_ids: Array) -> None:
    """Draw ids in proportion to exp(logits) by inverting the distribution function, block by block.

    Reference: Anshumann et al., Sparse Logit Sampling, https://arxiv.org/abs/2503.16870
    """
    total = masses.sum()
    for draw in range(uniforms.size):
        rest = uniforms[draw] * total
        # Rounding may leave a little at the end: the last one that has mass takes it.
        chosen = 0
        for block in range(masses.size):
            if masses[block] > 0.0:
                chosen = block
                if rest < masses[block]:
                    break
                rest -= masses[block]
        for place in range(chosen * _BLOCK_IDS, min(logits.size, (chosen + 1) * _BLOCK_IDS)):
            mass = _exp2((logits[place] - shift) * _LOG2_E)
            if mass > 0.0:
                sample_ids[draw] = place
                if rest < mass:
                    break
                rest -= mass


@numba.njit("float64(float32[::1], float64)", cache=True, nogil=True)
def _log_sum_exp(top: Array, rest: float) -> float:
    """Of the descending `top` and one more value that may exceed it."""
    greatest = max(np.float64(top[0]), rest)
    if greatest == -np.inf:
        return -np.inf
    total = math.exp(rest - greatest)
    for value in top:
        total += math.exp(np.float64(value) - greatest)
    return greatest + math.log(total)


@numba.njit(
    "UniTuple(float64, 2)(float32[::1], int64[::1], float32[::1], float64[::1], float64[::1], int64[::1])",
    cache=True,
    nogil=True,
)
def _weigh(
    logits: Array, top_ids: Array, top: Array, masses: Array, uniforms: Array, sample_ids: Array
) -> tuple[float, float]:
    """(log-sum-exp of the row, log of the mass outside the top); fills in `top` and the samples."""
    for column, place in enumerate(top_ids):
        top[column] = logits[place]
    for place in top_ids:
        logits[place] = -np.inf
    # Finite also where fewer than K ids have any mass.
    shift = max(top[-1], _LOWEST)
    for block in range(masses.size):
        masses[block] = _mass(logits[block * _BLOCK_IDS : (block + 1) * _BLOCK_IDS], shift)
    rest_mass = masses.sum()
    rest = np.float64(shift) + math.log(rest_mass) if rest_mass > 0.0 else -np.inf
    if rest_mass > 0.0:
        _sample(logits, shift, masses, uniforms, sample_ids)
    for column, place in enumerate(top_ids):
        logits[place] = top[column]
    return _log_sum_exp(top, rest), rest


@numba.njit(
    "void(float32[::1], int32[::1], int64, int64, int64[::1], float64[:, ::1], boolean[::1], int64[:, ::1], "
    "float32[:, ::1], float32[::1], float32[::1], int64[:, ::1])",
    cache=True,
    nogil=True,
)
def _keep(
    flat: Array,
    flat_bits: Array,
    stride: int,
    num_ids: int,
    next_ids: Array,
    uniforms_RM: Array,
    is_finite: Array,
    top_ids_RK: Array,
    top_logprobs_RK: Array,
    tail_logprobs: Array,
    next_logprobs: Array,
    sample_ids_RM: Array,
) -> None:
    num_blocks = (num_ids + _BLOCK_IDS - 1) // _BLOCK_IDS
    maxima, masses = np.empty(num_blocks, np.int32), np.empty(num_blocks, np.float64)
    keys, top_ids = np.empty(top_ids_RK.shape[1], np.int32), np.empty(top_ids_RK.shape[1], np.int64)
    top = np.empty(top_ids.size, np.float32)
    for row in range(is_finite.size):
        logits = flat[row * stride : row * stride + num_ids]
        bits = flat_bits[row * stride : row * stride + num_ids]
        if _find_maxima(bits, maxima):
            continue
        _find_top(bits, maxima, keys, top_ids)
        total, rest = _weigh(logits, top_ids, top, masses, uniforms_RM[row], sample_ids_RM[row])
        if total == -np.inf:
            continue
        is_finite[row] = True
        top_ids_RK[row] = top_ids
        for column in range(top.size):
            top_logprobs_RK[row, column] = np.float64(top[column]) - total
        tail_logprobs[row] = rest - total
        if next_ids[row] >= 0:
            next_logprobs[row] = np.float64(logits[next_ids[row]]) - total
