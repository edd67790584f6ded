from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.alignment.row_transform import SILENCED, UNALIGNED, Context, transform_rows
from fusion.blending.sparse_rows import SparseRows, normalise
from tests.fusion.blending.rows_by_hand import entries_of


def transform(positions: list[int], ids: Any, weights: Any, images: Any, **options: Any) -> SparseRows:
    settings: dict[str, Any] = {
        "contexts": np.zeros(len(positions), dtype=np.int8),
        "num_first": 0,
        "stand_ins": np.full(len(positions), -1),
        "target_size": 8,
    }
    images = np.array(images)
    images_3V = images if images.ndim == 2 else np.stack([images] * 3)
    return transform_rows(
        np.array(positions),
        ids_NK=np.array(ids),
        weights_NK=np.array(weights),
        images_3V=images_3V,
        **(settings | options),
    )


def test_masses_of_one_target_token_are_added() -> None:
    rows = transform([0], [[0, 1, 2]], [[0.5, 0.25, 0.125]], [4, 5, 4])

    assert entries_of(rows, 0) == [(4, 0.625), (5, 0.25)]


def test_the_reference_keeps_the_first_and_drops_the_rest() -> None:
    rows = transform([0], [[0, 1, 2]], [[0.5, 0.25, 0.125]], [4, 5, 4], num_first=3)

    assert entries_of(rows, 0) == [(4, 0.5), (5, 0.25)]


def test_columns_beyond_the_first_are_added_all_the_same() -> None:
    rows = transform([0], [[0, 1, 2, 2]], [[0.5, 0.25, 0.125, 0.125]], [4, 4, 6], num_first=2)

    assert entries_of(rows, 0) == [(4, 0.5), (6, 0.25)]


def test_a_row_that_maps_nowhere_is_empty_and_has_no_stand_in() -> None:
    rows = transform([0], [[0, 1]], [[0.5, 0.5]], [-1, -1], stand_ins=np.array([3]))

    assert entries_of(rows, 0) == []


def test_stand_ins_fill_unaligned_rows_but_not_silenced_ones() -> None:
    rows = transform([UNALIGNED, SILENCED, UNALIGNED], [[0]], [[1.0]], [4], stand_ins=np.array([7, 7, -1]))

    assert [entries_of(rows, row) for row in range(3)] == [[(7, 1.0)], [], []]


def test_one_source_row_may_serve_several_target_rows() -> None:
    rows = transform([1, 1, 0], [[0], [1]], [[0.5], [0.25]], [4, 5])

    assert [entries_of(rows, row) for row in range(3)] == [[(5, 0.25)], [(5, 0.25)], [(4, 0.5)]]


def test_the_start_of_a_text_has_its_own_images() -> None:
    contexts = np.array([Context.START, Context.SPACED_START, Context.INSIDE])

    rows = transform([0, 0, 0], [[0]], [[1.0]], [[4], [6], [7]], contexts=contexts)

    assert [entries_of(rows, row) for row in range(3)] == [[(6, 1.0)], [(7, 1.0)], [(4, 1.0)]]


@given(
    st.lists(st.integers(-1, 7), min_size=6, max_size=6),
    st.lists(st.floats(0.01, 1.0), min_size=7, max_size=7),
)
def test_no_mass_is_lost(images: list[int], masses: list[float]) -> None:
    *weights, tail = [mass / sum(masses) for mass in masses]

    rows = normalise(
        transform([0], [list(range(6))], [weights], images), totals=np.array([1.0]), renormalise=False
    )

    lost = tail + sum(weight for weight, image in zip(weights, images, strict=True) if image < 0)
    expected_tail = lost if any(image >= 0 for image in images) else 0.0
    assert rows.tails[0] == pytest.approx(expected_tail, abs=1e-5)
    for image, weight in entries_of(rows, 0):
        assert weight == pytest.approx(
            sum(weight for weight, other in zip(weights, images, strict=True) if other == image), abs=1e-5
        )
