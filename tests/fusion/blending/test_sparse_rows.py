import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.blending.sparse_rows import normalise
from tests.fusion.blending.rows_by_hand import entries_of, rows_of


def test_what_a_row_lost_goes_to_its_tail() -> None:
    rows = rows_of([[(3, 0.5), (1, 0.25)]])

    kept = normalise(rows, totals=np.array([1.0]), renormalise=False)

    assert entries_of(kept, 0) == [(3, 0.5), (1, 0.25)]
    assert kept.tails.tolist() == [0.25]


def test_renormalising_divides_by_the_kept_mass_and_leaves_no_tail() -> None:
    rows = rows_of([[(3, 0.5), (1, 0.25)]])

    renormalised = normalise(rows, totals=np.array([1.0]), renormalise=True)

    assert [weight for _, weight in entries_of(renormalised, 0)] == pytest.approx([2 / 3, 1 / 3])
    assert renormalised.tails.tolist() == [0.0]


def test_silent_rows_stay_silent_and_have_no_tail() -> None:
    rows = rows_of([[], [(0, 1.0)]])

    normalised = normalise(rows, totals=np.array([1.0, 1.0]), renormalise=False)

    assert normalised.silent.tolist() == [True, False]
    assert normalised.tails.tolist() == [0.0, 0.0]


@given(st.lists(st.floats(1e-3, 10.0), min_size=1, max_size=6), st.floats(0.0, 5.0), st.booleans())
def test_rows_and_tails_add_to_one_at_any_scale(weights: list[float], lost: float, renormalise: bool) -> None:
    rows = rows_of([list(enumerate(weights))])

    normalised = normalise(rows, totals=np.array([sum(weights) + lost]), renormalise=renormalise)

    assert normalised.kept[0] + normalised.tails[0] == pytest.approx(1.0, abs=1e-5)
