"""Which target token a source token counts for.

Every function returns an int32 array over the source tokens: an index into the target's pieces in the order
given, or -1 for tokens that map nowhere.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from fusion.io.tensors import Array

NOWHERE = -1
_MAX_DISTANCES = 1 << 20
"""Distances held at a time: they are read again at once, from the caches."""
_FARTHEST = np.iinfo(np.int32).max
_ALL_BYTES = [bytes([byte]) for byte in range(256)]


def map_exact(
    source_pieces: Sequence[str], target_pieces: Sequence[str], *, source_mark: str, target_mark: str
) -> Array:
    """Map equal pieces after swapping the word-boundary mark; everything else maps nowhere."""
    positions = _first_positions(target_pieces)
    swapped = (piece.replace(source_mark, target_mark) for piece in source_pieces)
    return np.array([positions.get(piece, NOWHERE) for piece in swapped], dtype=np.int32)


def map_min_edit_distance(
    source_pieces: Sequence[str], target_pieces: Sequence[str], *, source_mark: str, target_mark: str
) -> Array:
    """Map every source piece to the equal target piece, else to the one at the smallest Levenshtein distance.

    Marks are swapped, not removed. Ties go to the first target piece in the order given.

    Reference: `vocab_mapping.py` of FuseLLM, https://arxiv.org/abs/2401.10491
    """
    images = map_exact(source_pieces, target_pieces, source_mark=source_mark, target_mark=target_mark)
    open_by_length: dict[int, list[int]] = defaultdict(list)
    swapped = [piece.replace(source_mark, target_mark) for piece in source_pieces]
    for index in np.flatnonzero(images == NOWHERE).tolist():
        open_by_length[len(swapped[index])].append(index)
    targets = _by_length(target_pieces)
    for length, indices in open_by_length.items():
        images[indices] = _nearest([swapped[index] for index in indices], length, target_pieces, targets)
    return images


def _nearest(
    queries: list[str], length: int, target_pieces: Sequence[str], targets: dict[int, Array]
) -> Array:
    """Nearest target of queries of one length, from the nearest target lengths outwards.

    The distance of two strings is at least the difference of their lengths, so a query is settled once that
    difference exceeds its best distance. Where it equals it, only a piece before the present one could win.
    """
    best = np.full(len(queries), _FARTHEST, dtype=np.int32)
    images = np.full(len(queries), NOWHERE, dtype=np.int32)
    for target_length in sorted(targets, key=lambda other: abs(other - length)):
        least = abs(target_length - length)
        unsettled = np.flatnonzero(best >= least)
        if len(unsettled) == 0:
            break
        bucket = targets[target_length]
        choices = [target_pieces[index] for index in bucket]
        # No distance exceeds the longer length; small numbers are written and searched much faster.
        dtype = np.uint8 if max(length, target_length) <= np.iinfo(np.uint8).max else np.int32
        nums_choices = np.where(
            best[unsettled] == least, np.searchsorted(bucket, images[unsettled]), len(bucket)
        )
        for rows, num_choices in _chunks(unsettled, nums_choices, max_product=_MAX_DISTANCES):
            chunk = [queries[row] for row in rows]
            distances = cdist(
                chunk, choices[:num_choices], scorer=Levenshtein.distance, dtype=dtype, workers=-1
            )
            nearest = distances.argmin(axis=1)
            found, candidates = distances[np.arange(len(rows)), nearest], bucket[nearest]
            better = (found < best[rows]) | ((found == best[rows]) & (candidates < images[rows]))
            best[rows[better]], images[rows[better]] = found[better], candidates[better]
    return images


def _chunks(rows: Array, nums_choices: Array, *, max_product: int) -> Iterator[tuple[Array, int]]:
    """Rows with like numbers of choices together, and the greatest of these; without choices no row."""
    order = np.argsort(nums_choices, kind="stable")
    stop = len(rows)
    while stop > 0 and nums_choices[order[stop - 1]] > 0:
        num_choices = int(nums_choices[order[stop - 1]])
        start = max(0, stop - max(1, max_product // num_choices))
        yield rows[order[start:stop]], num_choices
        stop = start


def map_byte_prefix(
    source_bytes: Sequence[bytes], target_bytes: Sequence[bytes], *, fallback: Array | None = None
) -> Array:
    """Map every source token to the longest target piece whose bytes are a prefix of its own bytes.

    At a byte boundary this gives the target's exact next-token distribution wherever the target's next token
    does not reach beyond the source's. Tokens without bytes (control tokens) map nowhere, and nothing maps to
    them. Among target pieces with equal bytes a real piece wins over a fallback, then the lower id.

    Args:
        fallback: bool [target size]; ids that stand for a byte the tokenizer has no piece for (`<0x41>`); it
            does not emit them where a piece with the same bytes exists. A source token whose bytes a real
            piece begins with maps to none of them either, but nowhere: half of an `é` is no `<0xC3>` to a
            tokenizer with an `é`. Without it every token maps to its longest prefix, and ids that spell all
            bytes in order give way to other ids with the same bytes.

    Reference: byte-prefix marginalisation, https://arxiv.org/abs/2607.22334
    """
    fallbacks = _bytes_in_order(target_bytes) if fallback is None else fallback
    ids: dict[bytes, int] = {}
    for wanted in (False, True):
        for index in np.flatnonzero(fallbacks == wanted).tolist():
            ids.setdefault(target_bytes[index], index)
    ids.pop(b"", None)
    longest = max(map(len, ids), default=0)
    images = np.array([_longest_prefix(data, ids, longest) for data in source_bytes], dtype=np.int32)
    if fallback is None:
        return images
    real_pieces = sorted(target_bytes[index] for index in np.flatnonzero(~fallbacks).tolist())
    found = np.flatnonzero(images != NOWHERE)
    for index in found[fallbacks[images[found]]].tolist():
        if _begins_one_of(source_bytes[index], real_pieces):
            images[index] = NOWHERE
    return images


def _bytes_in_order(target_bytes: Sequence[bytes]) -> Array:
    """bool [target size]; the first run of ids that spells all bytes in order, as fallbacks do."""
    found = np.zeros(len(target_bytes), dtype=bool)
    for start, data in enumerate(target_bytes):
        if data == _ALL_BYTES[0] and list(target_bytes[start : start + 256]) == _ALL_BYTES:
            found[start : start + 256] = True
            break
    return found


def _longest_prefix(data: bytes, ids: dict[bytes, int], longest: int) -> int:
    for length in range(min(len(data), longest), 0, -1):
        found = ids.get(data[:length])
        if found is not None:
            return found
    return NOWHERE


def _begins_one_of(data: bytes, sorted_pieces: list[bytes]) -> bool:
    place = bisect_left(sorted_pieces, data)
    return place < len(sorted_pieces) and sorted_pieces[place].startswith(data)


def _first_positions(pieces: Sequence[str]) -> dict[str, int]:
    positions: dict[str, int] = {}
    for index, piece in enumerate(pieces):
        positions.setdefault(piece, index)
    return positions


def _by_length(pieces: Sequence[str]) -> dict[int, Array]:
    buckets: dict[int, list[int]] = defaultdict(list)
    for index, piece in enumerate(pieces):
        buckets[len(piece)].append(index)
    return {length: np.array(indices) for length, indices in buckets.items()}
