"""Sparse rows of probabilities: the form every distribution has between alignment and the lessons on disk.

Letters: `T` rows, `E` entries of all rows together.
"""

from dataclasses import dataclass

import numba
import numpy as np

from fusion.io.tensors import Array

_ROUNDING = 1e-6
"""Sums of fp32 probabilities differ by less than this from what they should be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseRows:
    """Rows of a `[T, V]` table of which only some entries are kept, in linear space.

    row_starts: int64 [T + 1]; entries of row i are `row_starts[i]:row_starts[i + 1]`; one without is silent.
    ids: int32 [E]; distinct within a row.
    weights: float32 [E].
    tails: float32 [T]; mass outside the entries.
    """

    row_starts: Array
    ids: Array
    weights: Array
    tails: Array

    @property
    def num_rows(self) -> int:
        return len(self.row_starts) - 1

    @property
    def silent(self) -> Array:
        """bool [T]; rows that hold no entry."""
        return np.asarray(np.diff(self.row_starts) == 0)

    @property
    def kept(self) -> Array:
        """float64 [T]; sum of each row's entries."""
        sums = np.concatenate([[0.0], np.cumsum(self.weights, dtype=np.float64)])
        return np.asarray(np.diff(sums[self.row_starts]))


def normalise(rows: SparseRows, *, totals: Array, renormalise: bool) -> SparseRows:
    """Make every row and its tail add to 1.

    What a row lost on its way (entries that map nowhere, dropped duplicates) is in `totals` but not in its
    entries, and goes to the tail.

    Args:
        rows: entries in linear space, at any scale; their tails are ignored.
        totals: float32 [T]; the mass of each row before anything was lost, at the same scale.
        renormalise: divide by the kept mass and leave no tail, as the paper does; else keep the tail.
    """
    weights, tails = _normalise(rows.row_starts, rows.weights, totals.astype(np.float32), renormalise)
    return SparseRows(row_starts=rows.row_starts, ids=rows.ids, weights=weights, tails=tails)


@numba.njit(
    "Tuple((float32[::1], float32[::1]))(int64[::1], float32[::1], float32[::1], boolean)",
    cache=True,
    nogil=True,
)
def _normalise(row_starts: Array, weights: Array, totals: Array, renormalise: bool) -> tuple[Array, Array]:
    out = np.empty_like(weights)
    tails = np.zeros(len(totals), np.float32)
    for row in range(len(totals)):
        kept = 0.0
        for entry in range(row_starts[row], row_starts[row + 1]):
            kept += weights[entry]
        total = kept if renormalise else max(kept, np.float64(totals[row]))
        if kept <= 0.0 or total <= 0.0:
            out[row_starts[row] : row_starts[row + 1]] = 0.0
            continue
        for entry in range(row_starts[row], row_starts[row + 1]):
            out[entry] = weights[entry] / total
        tail = 1.0 - kept / total
        tails[row] = tail if tail > _ROUNDING else 0.0
    return out, tails
