from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.blending.mixing import NOBODY, SEVERAL, Mixture, mix_rows
from fusion.blending.sparse_rows import SparseRows
from tests.fusion.blending.rows_by_hand import entries_of, rows_of, sparse_tables

SIZE = 12
NUM_ROWS = 3


def mix(rows_S: list[SparseRows], shares: list[float]) -> Mixture:
    num_rows = rows_S[0].num_rows
    return mix_rows(
        rows_S,
        shares_ST=np.repeat(np.array(shares, dtype=np.float32)[:, None], num_rows, axis=1),
        voices_ST=np.ones((len(rows_S), num_rows), dtype=bool),
        vocabulary_size=SIZE,
    )


def dense(rows: SparseRows) -> np.ndarray:
    table = np.zeros((rows.num_rows, SIZE))
    for row in range(rows.num_rows):
        for token_id, weight in entries_of(rows, row):
            table[row, token_id] = weight
    return table


@given(sparse_tables(num_rows=NUM_ROWS))
def test_one_speaker_is_returned_unchanged(rows: SparseRows) -> None:
    mixture = mix([rows], [1.0])

    assert mixture.rows.row_starts.tolist() == rows.row_starts.tolist()
    assert mixture.rows.ids.tolist() == rows.ids.tolist()
    assert mixture.rows.weights.tolist() == rows.weights.tolist()
    assert mixture.rows.tails.tolist() == rows.tails.tolist()


@given(sparse_tables(num_rows=NUM_ROWS), sparse_tables(num_rows=NUM_ROWS), st.floats(0.1, 0.9))
def test_equal_ids_add_up_and_rows_stay_distributions(
    first: SparseRows, second: SparseRows, share: float
) -> None:
    mixture = mix([first, second], [share, 1.0 - share])

    table = dense(mixture.rows)
    for row in range(NUM_ROWS):
        shares = np.array([share, 1.0 - share]) * ~np.array([first.silent[row], second.silent[row]])
        shares = shares / max(shares.sum(), 1e-12)
        assert table[row] == pytest.approx(
            shares[0] * dense(first)[row] + shares[1] * dense(second)[row], abs=1e-6
        )
        assert table[row].sum() + mixture.rows.tails[row] == pytest.approx(float(shares.any()), abs=1e-6)


@given(
    st.lists(sparse_tables(num_rows=NUM_ROWS), min_size=2, max_size=5),
    st.lists(st.floats(0.0, 1.0, width=32), min_size=5, max_size=5),
    st.randoms(use_true_random=False),
)
def test_the_order_of_speakers_changes_no_bit(
    rows_S: list[SparseRows], shares: list[float], random: Random
) -> None:
    order = list(range(len(rows_S)))
    random.shuffle(order)

    given_order = mix(rows_S, shares[: len(rows_S)])
    shuffled = mix([rows_S[index] for index in order], [shares[index] for index in order])

    for name in SparseRows.__slots__:
        assert getattr(shuffled.rows, name).tobytes() == getattr(given_order.rows, name).tobytes()
    assert shuffled.shares_ST.tobytes() == given_order.shares_ST[order].tobytes()
    alone = given_order.speakers >= 0
    assert [order[index] for index in shuffled.speakers[alone]] == given_order.speakers[alone].tolist()
    assert shuffled.speakers[~alone].tolist() == given_order.speakers[~alone].tolist()


def test_equal_weights_are_ordered_by_id_where_several_speak() -> None:
    first, second = rows_of([[(7, 0.5), (2, 0.25)]]), rows_of([[(4, 0.5), (9, 0.25)]])

    mixture = mix([first, second], [0.5, 0.5])

    assert [token_id for token_id, _ in entries_of(mixture.rows, 0)] == [4, 7, 2, 9]


@given(sparse_tables(num_rows=NUM_ROWS), sparse_tables(num_rows=NUM_ROWS))
def test_ids_are_distinct_and_weights_descend(first: SparseRows, second: SparseRows) -> None:
    rows = mix([first, second], [0.5, 0.5]).rows

    for row in range(NUM_ROWS):
        ids, weights = zip(*entries_of(rows, row), strict=True) if not rows.silent[row] else ((), ())
        assert len(set(ids)) == len(ids)
        assert list(weights) == sorted(weights, reverse=True)


def test_a_silent_speaker_leaves_its_share_to_the_others() -> None:
    mixture = mix([rows_of([[]]), rows_of([[(1, 0.75)]]), rows_of([[(2, 0.5)]])], [0.8, 0.15, 0.05])

    assert mixture.shares_ST[:, 0].tolist() == pytest.approx([0.0, 0.75, 0.25])
    assert mixture.rows.tails[0] == pytest.approx(0.75 * 0.25 + 0.25 * 0.5)
    assert mixture.speakers.tolist() == [SEVERAL]


def test_speakers_are_named_only_for_what_they_said() -> None:
    said, silent = rows_of([[(1, 1.0)]] * 3), rows_of([[], [], []])
    voices = np.array([[True, False, True], [True, True, True]])

    mixture = mix_rows(
        [said, silent], shares_ST=np.array([[1, 1, 0], [0, 0, 1]]), voices_ST=voices, vocabulary_size=SIZE
    )

    assert mixture.speakers.tolist() == [0, NOBODY, NOBODY]
    assert mixture.rows.silent.tolist() == [False, False, True]
