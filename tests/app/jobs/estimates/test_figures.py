"""Figures with ranges, and what a product or a sum of them rests on."""

import pytest

from app.jobs.estimates.figures import Basis, Figure, total, weakest

COUNTED = Figure.exactly(100.0, why="counted")
GUESSED = Figure.within(1.0, 2.0, 4.0, basis=Basis.DEFAULT, why="guessed")


def test_a_product_has_the_range_of_both_and_rests_on_the_weaker() -> None:
    product = COUNTED.times(GUESSED)

    assert (product.low, product.value, product.high) == (100.0, 200.0, 400.0)
    assert (product.basis, product.why) == (Basis.DEFAULT, "counted; guessed")


def test_a_sum_adds_the_edges() -> None:
    summed = total([COUNTED, GUESSED], why="both")

    assert (summed.low, summed.value, summed.high, summed.why) == (101.0, 102.0, 104.0, "both")


@pytest.mark.parametrize("made", [COUNTED.times, lambda other: total([COUNTED, other], why="sum")])
def test_what_is_unknown_makes_all_of_it_unknown_and_says_why(made: object) -> None:
    assert callable(made)
    unknown = made(Figure.unknown("nobody looked"))

    assert (unknown.value, unknown.low, unknown.high, unknown.why) == (None, None, None, "nobody looked")


def test_a_value_is_never_outside_of_its_range() -> None:
    figure = Figure.within(3.0, 2.0, 1.0, basis=Basis.MODELLED, why="")

    assert (figure.low, figure.high) == (2.0, 2.0)


def test_an_assumption_is_weaker_than_a_computation() -> None:
    assert weakest([Basis.MEASURED, Basis.DEFAULT, Basis.MODELLED]) is Basis.DEFAULT
    assert weakest([Basis.MEASURED, Basis.MODELLED]) is Basis.MODELLED
