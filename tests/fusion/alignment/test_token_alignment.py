from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from fusion.alignment.token_alignment import align_boundaries, align_dtw, match_one_to_one

ends_lists = (
    st.lists(st.integers(0, 12), max_size=12).map(sorted).map(lambda ends: np.array(ends, dtype=np.uint32))
)
pieces = st.lists(st.sampled_from(["▁a", "b", "ab", "▁▁", "bca", "▁ab", "c"]), min_size=1, max_size=8)


def last_positions(ends: np.ndarray) -> dict[int, int]:
    return {end: position for position, end in enumerate(ends.tolist())}


@given(ends_lists, ends_lists)
def test_aligned_ends_are_the_common_ones(target_ends: np.ndarray, source_ends: np.ndarray) -> None:
    target, source = last_positions(target_ends), last_positions(source_ends)

    positions = align_boundaries(target_ends, source_ends)

    assert positions.dtype == np.int32
    expected = np.full(len(target_ends), -1)
    for end in target.keys() & source.keys():
        expected[target[end]] = source[end]
    assert positions.tolist() == expected.tolist()


@given(ends_lists, ends_lists)
def test_boundary_alignment_is_symmetric(first: np.ndarray, second: np.ndarray) -> None:
    forth = {(i, j) for i, j in enumerate(align_boundaries(first, second).tolist()) if j >= 0}
    back = {(j, i) for i, j in enumerate(align_boundaries(second, first).tolist()) if j >= 0}

    assert forth == back


@given(ends_lists, ends_lists)
def test_strict_keeps_the_rows_whose_next_tokens_end_together(
    target_ends: np.ndarray, source_ends: np.ndarray
) -> None:
    loose = align_boundaries(target_ends, source_ends)

    strict = align_boundaries(target_ends, source_ends, strict=True)

    for i, j in enumerate(loose.tolist()):
        agree = target_ends[i + 1 : i + 2].tolist() == source_ends[j + 1 : j + 2].tolist()
        assert strict[i] == (j if j >= 0 and agree else -1)


def test_one_token_of_the_target_may_span_several_of_the_source() -> None:
    assert align_boundaries(np.array([3, 5]), np.array([1, 3, 4, 5])).tolist() == [1, 3]
    assert align_boundaries(np.array([3, 5]), np.array([1, 3, 4, 5]), strict=True).tolist() == [-1, 3]


def slow_dtw(target_pieces: list[str], source_pieces: list[str]) -> list[list[int]]:
    """The definition, cell by cell, with infinite borders."""
    costs = np.array([[Levenshtein.distance(s, t) for t in target_pieces] for s in source_pieces])
    total = np.full((len(source_pieces), len(target_pieces)), np.inf)

    def at(j: int, i: int) -> float:
        return float(total[j, i]) if j >= 0 and i >= 0 else np.inf

    for j in range(len(source_pieces)):
        for i in range(len(target_pieces)):
            before = min(at(j - 1, i - 1), at(j - 1, i), at(j, i - 1)) if i or j else 0.0
            total[j, i] = costs[j, i] + before
    j, i = len(source_pieces) - 1, len(target_pieces) - 1
    matches: list[list[int]] = [[] for _ in target_pieces]
    matches[i].append(j)
    while i or j:
        move = int(np.argmin([at(j - 1, i - 1), at(j - 1, i), at(j, i - 1)]))
        j, i = j - (move != 2), i - (move != 1)
        matches[i].insert(0, j)
    return matches


@given(pieces, pieces)
def test_dtw_follows_its_definition(target: list[str], source: list[str]) -> None:
    matches = align_dtw(target, source, target_mark="▁", source_mark="▁")

    assert matches == slow_dtw([p.replace("▁", "") for p in target], [p.replace("▁", "") for p in source])


@given(pieces, pieces)
def test_dtw_covers_both_sides_without_gaps(target: list[str], source: list[str]) -> None:
    matches = align_dtw(target, source, target_mark="▁", source_mark="▁")

    assert matches[0][0] == 0
    assert matches[-1][-1] == len(source) - 1
    assert all(after[0] - before[-1] in (0, 1) for before, after in pairwise(matches))


def test_dtw_of_nothing_matches_nothing() -> None:
    assert align_dtw([], ["a"], target_mark="▁", source_mark="▁") == []
    assert align_dtw(["a", "b"], [], target_mark="▁", source_mark="▁") == [[], []]
    nothing = np.zeros(0, dtype=np.int32)
    assert match_one_to_one(np.array([0]), nothing, target_stripped=["a"], source_stripped=[]).tolist() == [
        -1
    ]
