import numpy as np
import pytest

from fusion.blending.rules import share_out, target_is_better
from fusion.spec import BlendingSpec

NAMES = ["target", "mpt", "open"]
CE = (1.8, 2.0, 2.4)


def shares_of(scores: tuple[float, ...], **spec: object) -> list[float]:
    table = np.array(scores, dtype=np.float32)[:, None]
    shares = share_out(table, spec=BlendingSpec.model_validate(spec), speaker_names=NAMES)
    return shares[:, 0].tolist()


def test_min_ce_gives_all_to_the_lowest_score() -> None:
    assert shares_of((2.0, 1.8, 2.4)) == [0.0, 1.0, 0.0]


def test_min_ce_gives_ties_to_the_first_speaker() -> None:
    assert shares_of((2.0, 1.8, 1.8)) == [0.0, 1.0, 0.0]


def test_avg_ce_is_a_softmax_of_negative_scores() -> None:
    assert shares_of(CE, rule="avg_ce") == pytest.approx([0.42, 0.35, 0.23], abs=0.01)


def test_the_references_avg_ce_is_nearly_uniform() -> None:
    shares = shares_of(CE, rule="avg_ce", avg_ce_weights="softmax_exp_negative")

    assert shares == pytest.approx([0.345, 0.335, 0.320], abs=0.001)


def test_a_low_temperature_sharpens() -> None:
    assert shares_of(CE, rule="avg_ce", temperature=0.01) == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)


def test_fixed_weights_are_shared_among_those_who_read_the_window() -> None:
    weights = {"target": 1.0, "mpt": 1.0, "open": 2.0}

    assert shares_of((np.inf, 2.0, 2.0), rule="weighted", weights=weights) == pytest.approx([0, 1 / 3, 2 / 3])


@pytest.mark.parametrize("rule", ["min_ce", "avg_ce"])
def test_nobody_speaks_where_nobody_has_a_score(rule: str) -> None:
    assert shares_of((np.inf, np.inf, np.inf), rule=rule) == [0.0, 0.0, 0.0]


def test_the_target_is_better_only_when_it_beats_every_source() -> None:
    target = np.array([1.0, 2.0, 1.0, np.inf])
    sources = np.array([[2.0, 1.0, 1.0, np.inf], [3.0, 3.0, np.inf, np.inf]])

    assert target_is_better(target, sources).tolist() == [True, False, False, False]
