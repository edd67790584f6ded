"""A source's rows, brought onto the target's positions and vocabulary.

Letters: `T` target rows, `N` source rows, `K` entries of a source row, `V` ids of the source.
"""

from enum import IntEnum

import numba
import numpy as np

from fusion.blending.sparse_rows import SparseRows
from fusion.io.tensors import Array


class Context(IntEnum):
    """Where in a text a row stands, as far as it changes what a token spells."""

    INSIDE = 0
    START = 1
    """Before a text that does not begin with a space: tokenizers may put one in front of it."""
    SPACED_START = 2
    """Before a text that begins with a space: few tokenizers put another one in front of it."""


UNALIGNED = -1
"""Position of a target row no source row speaks for."""
SILENCED = -2
"""Position of a target row that must stay empty, whatever stands in for unaligned ones."""


def transform_rows(
    positions: Array,
    *,
    ids_NK: Array,
    weights_NK: Array,
    images_3V: Array,
    contexts: Array,
    num_first: int,
    stand_ins: Array,
    target_size: int,
) -> SparseRows:
    """Take each target row's source row and rename its entries.

    Entries that map nowhere are dropped; the order of the others is kept. Tails are left 0 (see
    `fusion.blending.sparse_rows.normalise`).

    Args:
        positions: [T]; row of the source, `UNALIGNED` or `SILENCED`.
        ids_NK: [N, K]; source ids, most likely first.
        weights_NK: [N, K]; anything additive (probabilities), or anything at all where nothing is added.
        images_3V: int32 [3, V]; target id of every source id, -1 for nowhere: one set per `Context`.
        contexts: int8 [T]; the `Context` of each row, which chooses its set of images.
        num_first: of entries that land on one target id, the first `num_first` columns keep only the first
            (the reference: all K of them); later columns are added. 0 adds everything.
        stand_ins: [T]; target id that alone fills an `UNALIGNED` row, with weight 1; -1 leaves it silent.
        target_size: every image and stand-in is below it.
    """
    row_starts, ids, weights = _transform(
        np.ascontiguousarray(positions, np.int64),
        np.ascontiguousarray(ids_NK, np.int32),
        np.ascontiguousarray(weights_NK, np.float32),
        np.ascontiguousarray(images_3V, np.int32),
        np.ascontiguousarray(contexts, np.int8),
        num_first,
        np.ascontiguousarray(stand_ins, np.int32),
        target_size,
    )
    tails = np.zeros(len(positions), dtype=np.float32)
    return SparseRows(row_starts=row_starts, ids=ids, weights=weights, tails=tails)


@numba.njit(
    "Tuple((int64[::1], int32[::1], float32[::1]))"
    "(int64[::1], int32[:, ::1], float32[:, ::1], int32[:, ::1], int8[::1], int64, int32[::1], int64)",
    cache=True,
    nogil=True,
)
def _transform(
    positions: Array,
    ids_NK: Array,
    weights_NK: Array,
    images_3V: Array,
    contexts: Array,
    num_first: int,
    stand_ins: Array,
    target_size: int,
) -> tuple[Array, Array, Array]:
    num_rows, num_entries = len(positions), ids_NK.shape[1]
    row_starts = np.zeros(num_rows + 1, np.int64)
    ids = np.empty(num_rows * max(num_entries, 1), np.int32)
    weights = np.empty(num_rows * max(num_entries, 1), np.float32)
    # Where in this row each target id lies: entries of earlier rows lie before `start`.
    place_of = np.full(target_size, -1, np.int64)
    end = 0
    for row in range(num_rows):
        start = end
        position = positions[row]
        if position == UNALIGNED and stand_ins[row] >= 0:
            ids[end], weights[end] = stand_ins[row], 1.0
            end += 1
        elif position >= 0:
            images = images_3V[contexts[row]]
            for column in range(num_entries):
                image = images[ids_NK[position, column]]
                if image < 0:
                    continue
                place = place_of[image]
                if place < start:
                    place_of[image] = end
                    ids[end], weights[end] = image, weights_NK[position, column]
                    end += 1
                elif column >= num_first:
                    weights[place] += weights_NK[position, column]
        row_starts[row + 1] = end
    return row_starts, ids[:end].copy(), weights[:end].copy()
