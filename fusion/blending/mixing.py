"""The sparse union of several speakers' rows.

The same bytes come out whatever order the speakers are given in: what is added is added in fixed point, where
sums do not depend on their order, and equal weights are ordered by id.

Letters: `S` speakers, `T` target rows, `E` entries of all rows together, `V` target vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

from fusion.blending.rules import sum_over_speakers
from fusion.blending.sparse_rows import SparseRows
from fusion.io.tensors import Array

NOBODY = -1
SEVERAL = -2
_FIXED_POINT = float(1 << 60)
"""Units of a probability of 1: rows add to 1, so their sums stay far below 2^63."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """Blended rows, and who is in them.

    rows: entries most likely first, equal ones by id; as they arrived where one speaker is alone in a row.
    speakers: int8 [T]; the only speaker in the row, `SEVERAL`, or `NOBODY`.
    shares_ST: float32 [S, T]; what each speaker has of the row; a column adds to 1, or to 0 in a silent row.
    """

    rows: SparseRows
    speakers: Array
    shares_ST: Array


def mix_rows(
    rows_S: Sequence[SparseRows], *, shares_ST: Array, voices_ST: Array, vocabulary_size: int
) -> Mixture:
    """Blend rows by their shares: weights of equal ids add up, and so do tails.

    A speaker whose row is silent takes no part, and the others' shares grow in proportion. One speaker alone
    is returned unchanged.

    Args:
        rows_S: one set of T rows per speaker, each row and its tail adding to 1.
        shares_ST: [S, T]; not negative.
        voices_ST: bool [S, T]; False where a row is a stand-in (one-hot) and not what the speaker said.
        vocabulary_size: V; every id is below it.
    """
    taken_ST = np.where(np.stack([rows.silent for rows in rows_S]), 0.0, shares_ST).astype(np.float64)
    totals_T = sum_over_speakers(taken_ST)
    taken_ST = taken_ST / np.where(totals_T > 0.0, totals_T, 1.0)
    offsets_S = np.cumsum([0, *(len(rows.ids) for rows in rows_S)])[:-1]
    row_starts, ids, weights, tails = _mix(
        np.stack([rows.row_starts + offset for rows, offset in zip(rows_S, offsets_S, strict=True)]),
        np.concatenate([rows.ids for rows in rows_S]),
        np.concatenate([rows.weights for rows in rows_S]),
        np.stack([rows.tails for rows in rows_S]),
        taken_ST,
        vocabulary_size,
    )
    return Mixture(
        rows=SparseRows(row_starts=row_starts, ids=ids, weights=weights, tails=tails),
        speakers=_speakers(taken_ST > 0.0, voices_ST),
        shares_ST=taken_ST.astype(np.float32),
    )


def _speakers(takes_part_ST: Array, voices_ST: Array) -> Array:
    speaks_ST = takes_part_ST & voices_ST
    alone_T = takes_part_ST.sum(axis=0) == 1
    speakers_T = np.where(alone_T, np.argmax(speaks_ST, axis=0), SEVERAL)
    return np.asarray(np.where(speaks_ST.any(axis=0), speakers_T, NOBODY).astype(np.int8))


@numba.njit("void(int32[::1], float32[::1], int64, int64, int32, float32, boolean)", cache=True, nogil=True)
def _insert(
    ids: Array, weights: Array, start: int, end: int, token_id: int, weight: float, ties_by_id: bool
) -> None:
    """Put an entry where it belongs among the ordered ones of `start:end`; they arrive nearly in order."""
    place = end
    while place > start and (
        weights[place - 1] < weight
        or (ties_by_id and weights[place - 1] == weight and ids[place - 1] > token_id)
    ):
        weights[place] = weights[place - 1]
        ids[place] = ids[place - 1]
        place -= 1
    weights[place] = weight
    ids[place] = token_id


@numba.njit(
    "Tuple((int64[::1], int32[::1], float32[::1], float32[::1]))"
    "(int64[:, ::1], int32[::1], float32[::1], float32[:, ::1], float64[:, ::1], int64)",
    cache=True,
    nogil=True,
)
def _mix(
    row_starts_ST: Array, ids: Array, weights: Array, tails_ST: Array, shares_ST: Array, vocabulary_size: int
) -> tuple[Array, Array, Array, Array]:
    num_speakers, num_rows = shares_ST.shape
    sums = np.zeros(vocabulary_size, np.int64)
    seen = np.zeros(vocabulary_size, np.bool_)
    out_starts = np.zeros(num_rows + 1, np.int64)
    out_ids = np.empty(len(ids), np.int32)
    out_weights = np.empty(len(ids), np.float32)
    out_tails = np.zeros(num_rows, np.float32)
    end = 0
    for row in range(num_rows):
        start = end
        num_taking_part, alone = 0, 0
        for speaker in range(num_speakers):
            if shares_ST[speaker, row] > 0.0:
                num_taking_part, alone = num_taking_part + 1, speaker
        if num_taking_part == 1:
            for entry in range(row_starts_ST[alone, row], row_starts_ST[alone, row + 1]):
                _insert(out_ids, out_weights, start, end, ids[entry], weights[entry], False)
                end += 1
            out_tails[row] = tails_ST[alone, row]
            out_starts[row + 1] = end
            continue
        tail = np.int64(0)
        for speaker in range(num_speakers):
            units = shares_ST[speaker, row] * _FIXED_POINT
            if units == 0.0:
                continue
            tail += np.int64(units * tails_ST[speaker, row])
            for entry in range(row_starts_ST[speaker, row], row_starts_ST[speaker, row + 1]):
                token_id = ids[entry]
                if not seen[token_id]:
                    seen[token_id] = True
                    out_ids[end] = token_id
                    end += 1
                sums[token_id] += np.int64(units * weights[entry])
        for place in range(start, end):
            token_id = out_ids[place]
            weight = np.float32(sums[token_id] / _FIXED_POINT)
            _insert(out_ids, out_weights, start, place, token_id, weight, True)
            sums[token_id] = 0
            seen[token_id] = False
        out_tails[row] = tail / _FIXED_POINT
        out_starts[row + 1] = end
    return out_starts, out_ids[:end].copy(), out_weights[:end].copy(), out_tails
