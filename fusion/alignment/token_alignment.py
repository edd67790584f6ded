"""Which source position speaks for which target position.

Letters: `T` target tokens, `N` source tokens, `U` distinct target pieces, `W` distinct source pieces.
"""

from collections.abc import Sequence

import numba
import numpy as np
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from fusion.io.tensors import Array

UNMATCHED = -1


def align_boundaries(target_ends: Array, source_ends: Array, *, strict: bool = False) -> Array:
    """Align positions at which both tokenizers have consumed the same bytes.

    Among positions of one side with equal ends (zero-width tokens) only the last is aligned.

    Args:
        target_ends: [T]; bytes consumed after each target token, never falling.
        source_ends: [N]; the same for the source.
        strict: in addition the next tokens must end on the same byte, or both positions be their side's last.

    Returns:
        int32 [T]; the source position, -1 where none.
    """
    positions: Array = _merge_ends(
        np.ascontiguousarray(target_ends, np.int64), np.ascontiguousarray(source_ends, np.int64), strict
    )
    return positions


@numba.njit("int32[::1](int64[::1], int64[::1], boolean)", cache=True, nogil=True)
def _merge_ends(target_ends: Array, source_ends: Array, strict: bool) -> Array:
    num_target, num_source = len(target_ends), len(source_ends)
    positions = np.full(num_target, -1, np.int32)
    j = 0
    for i in range(num_target):
        if i + 1 < num_target and target_ends[i + 1] == target_ends[i]:
            continue
        while j + 1 < num_source and source_ends[j + 1] <= target_ends[i]:
            j += 1
        if j >= num_source or source_ends[j] != target_ends[i]:
            continue
        last_i, last_j = i + 1 == num_target, j + 1 == num_source
        if strict and (last_i != last_j or (not last_i and target_ends[i + 1] != source_ends[j + 1])):
            continue
        positions[i] = j
    return positions


def align_dtw(
    target_pieces: Sequence[str], source_pieces: Sequence[str], *, target_mark: str, source_mark: str
) -> list[list[int]]:
    """Align two tokenisations by dynamic time warping, as the paper does.

    The cost of a pair is the Levenshtein distance of its pieces after every occurrence of their word-boundary
    mark is removed. The source is the first series; the way back takes the first minimum of (diagonal, up,
    left).

    Returns:
        for every target position the matched source positions, ascending; none where the source is empty.

    Reference: `dtw` of FuseLLM, https://arxiv.org/abs/2401.10491
    """
    target_inverse, target_unique = _distinct([piece.replace(target_mark, "") for piece in target_pieces])
    source_inverse, source_unique = _distinct([piece.replace(source_mark, "") for piece in source_pieces])
    first, last = _warp(target_inverse, source_inverse, _distances(target_unique, source_unique))
    return [list(range(start, stop + 1)) for start, stop in zip(first.tolist(), last.tolist(), strict=True)]


def match_one_to_one(
    target_ids: Array, source_ids: Array, *, target_stripped: Sequence[str], source_stripped: Sequence[str]
) -> Array:
    """Target positions that `align_dtw` matches with exactly one source position.

    The same as `align_dtw` over token ids, without building a list per position.

    Args:
        target_ids: int [T]; ids of the target's tokens.
        source_ids: int [N].
        target_stripped: piece of every target id without its word-boundary marks.
        source_stripped: the same for the source.

    Returns:
        int32 [T]; the source position, -1 where none or several are matched.
    """
    target_unique, target_inverse = np.unique(target_ids, return_inverse=True)
    source_unique, source_inverse = np.unique(source_ids, return_inverse=True)
    first, last = _warp(
        target_inverse.astype(np.int32),
        source_inverse.astype(np.int32),
        _distances(
            [target_stripped[token_id] for token_id in target_unique.tolist()],
            [source_stripped[token_id] for token_id in source_unique.tolist()],
        ),
    )
    return np.where(first == last, first, np.int32(UNMATCHED))


def _distinct(pieces: Sequence[str]) -> tuple[Array, list[str]]:
    """int32 index of every piece into the distinct ones, and these in order of appearance."""
    numbers: dict[str, int] = {}
    inverse = [numbers.setdefault(piece, len(numbers)) for piece in pieces]
    return np.array(inverse, dtype=np.int32), list(numbers)


def _distances(target_pieces: Sequence[str], source_pieces: Sequence[str]) -> Array:
    """int32 [W, U]; edit distances between distinct pieces: a text repeats few pieces often."""
    if not target_pieces or not source_pieces:
        return np.zeros((len(source_pieces), len(target_pieces)), dtype=np.int32)
    distances = cdist(source_pieces, target_pieces, scorer=Levenshtein.distance, dtype=np.int32)
    return np.ascontiguousarray(distances)


@numba.njit("UniTuple(int32[::1], 2)(int32[::1], int32[::1], int32[:, ::1])", cache=True, nogil=True)
def _warp(target_T: Array, source_N: Array, distances_WU: Array) -> tuple[Array, Array]:
    """First and last source position of each target position; the path is monotone, so all between."""
    num_target, num_source = len(target_T), len(source_N)
    first = np.full(num_target, -1, np.int32)
    last = np.full(num_target, -2, np.int32)
    if num_target == 0 or num_source == 0:
        return first, last
    # 0 diagonal, 1 up, 2 left: the way back to the first minimum, noted on the way there.
    moves = np.empty((num_source, num_target), np.uint8)
    above = np.empty(num_target, np.int32)
    left = np.int32(0)
    for i in range(num_target):
        left += distances_WU[source_N[0], target_T[i]]
        above[i] = left
        moves[0, i] = 2
    for j in range(1, num_source):
        costs = distances_WU[source_N[j]]
        move_row = moves[j]
        diagonal = above[0]
        left = diagonal + costs[target_T[0]]
        above[0] = left
        move_row[0] = 1
        for i in range(1, num_target):
            up = above[i]
            before = min(diagonal, up)
            move = np.uint8(0) if diagonal <= up else np.uint8(1)
            move_row[i] = np.uint8(2) if left < before else move
            left = min(before, left) + costs[target_T[i]]
            above[i] = left
            diagonal = up
    i, j = num_target - 1, num_source - 1
    while True:
        first[i] = j
        if last[i] < 0:
            last[i] = j
        if i == 0 and j == 0:
            return first, last
        move = moves[j, i]
        if move != 1:
            i -= 1
        if move != 2:
            j -= 1
