"""The byte-prefix map against the truth, where a source is small enough to be summed over entirely.

The source draws its tokens independently; the target cuts text greedily, longest piece first. Where no piece
of the target reaches beyond a token of the source, the target's next token follows from the source's
next token alone, and the mapped row is the exact distribution of what the target would read next.
"""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.alignment.row_transform import Context, transform_rows
from fusion.alignment.vocab_mapping import map_byte_prefix
from fusion.blending.sparse_rows import normalise
from tests.fusion.blending.rows_by_hand import entries_of

SINGLES = [b"a", b"b", b"c"]
tokens = st.text(alphabet="abc", min_size=1, max_size=3).map(str.encode)


def next_piece(text: bytes, pieces: list[bytes]) -> bytes:
    return max((piece for piece in pieces if text.startswith(piece)), key=len)


def exact_marginal(source: list[bytes], weights: list[float], target: list[bytes]) -> dict[bytes, float]:
    """Probability of the target's first piece, summed over every text of two source tokens."""
    marginal = dict.fromkeys(target, 0.0)
    for (first, first_weight), (second, second_weight) in product(
        zip(source, weights, strict=True), repeat=2
    ):
        marginal[next_piece(first + second, target)] += first_weight * second_weight
    return marginal


def mapped_row(
    source: list[bytes], weights: list[float], target: list[bytes]
) -> tuple[dict[bytes, float], float]:
    images = map_byte_prefix(source, target)
    rows = transform_rows(
        np.array([0]),
        ids_NK=np.arange(len(source))[None],
        weights_NK=np.array([weights]),
        images_3V=np.stack([images] * 3),
        contexts=np.array([Context.INSIDE]),
        num_first=0,
        stand_ins=np.array([-1]),
        target_size=len(target),
    )
    rows = normalise(rows, totals=np.array([1.0]), renormalise=False)
    return {target[token_id]: weight for token_id, weight in entries_of(rows, 0)}, float(rows.tails[0])


@given(
    st.lists(st.tuples(tokens, st.integers(1, 9)), min_size=1, max_size=5, unique_by=lambda pair: pair[0]),
    st.lists(tokens, max_size=6),
)
def test_the_mapped_row_is_the_exact_marginal(pairs: list[tuple[bytes, int]], extra: list[bytes]) -> None:
    source = [token for token, _ in pairs]
    weights = [share / sum(share for _, share in pairs) for _, share in pairs]
    short_enough = [
        piece for piece in extra if not any(piece != token and piece.startswith(token) for token in source)
    ]
    target = list(dict.fromkeys([*SINGLES, *short_enough]))

    row, tail = mapped_row(source, weights, target)

    assert tail == 0.0
    for piece, mass in exact_marginal(source, weights, target).items():
        assert row.get(piece, 0.0) == pytest.approx(mass, abs=1e-6)


def test_where_the_target_reaches_further_the_row_is_its_own_best_guess() -> None:
    row, _ = mapped_row([b"a", b"b"], [0.5, 0.5], [*SINGLES, b"ab"])

    exact = exact_marginal([b"a", b"b"], [0.5, 0.5], [*SINGLES, b"ab"])
    assert row == {b"a": 0.5, b"b": 0.5}
    assert exact == {b"a": 0.25, b"b": 0.5, b"c": 0.0, b"ab": 0.25}


def test_bytes_the_target_cannot_spell_go_to_the_tail() -> None:
    row, tail = mapped_row([b"a", b"z"], [0.75, 0.25], SINGLES)

    assert row == {b"a": 0.75}
    assert tail == 0.25
