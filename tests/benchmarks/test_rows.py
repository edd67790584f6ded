"""A row's verdict, and the figures that times become."""

import pytest

from benchmarks import reference
from benchmarks.measuring import Pair, Timed, core_seconds, interleaved, relative_spread
from benchmarks.rows import Direction, Row, Verdict


def row(ratio: float | None, *, direction: Direction = "at least", judged: bool = True) -> Row:
    return Row(
        name="row",
        work="some work",
        unit="s",
        measured=1.0,
        ratio=ratio,
        direction=direction,
        target_ratio=2.0,
        noise_margin=0.1,
        details={},
        judged=judged,
    )


@pytest.mark.parametrize(
    ("direction", "ratio", "verdict"),
    [
        ("at least", 2.0, Verdict.OK),
        ("at least", 1.9, Verdict.WITHIN_NOISE),
        ("at least", 1.8, Verdict.MISSED),
        ("at most", 2.0, Verdict.OK),
        ("at most", 2.2, Verdict.WITHIN_NOISE),
        ("at most", 2.3, Verdict.MISSED),
    ],
)
def test_a_target_is_missed_only_beyond_the_noise(
    direction: Direction, ratio: float, verdict: Verdict
) -> None:
    assert row(ratio, direction=direction).verdict is verdict


def test_a_row_without_a_ratio_has_no_target() -> None:
    assert row(None).verdict is Verdict.NO_TARGET


def test_sizes_too_small_to_judge_are_not_judged() -> None:
    assert row(0.1, judged=False).verdict is Verdict.NOT_JUDGED


def test_a_slow_round_moves_neither_ratio_nor_median() -> None:
    pair = Pair(first=Timed(seconds=(1.0, 9.0, 1.0)), second=Timed(seconds=(2.0, 18.0, 2.0)))

    assert pair.ratio == 0.5
    assert pair.noise_margin == 0.0
    assert pair.first.median == 1.0


def test_the_spread_is_half_the_distance_of_the_quartiles() -> None:
    assert relative_spread([8.0, 9.0, 10.0, 11.0, 12.0]) == pytest.approx(0.1)
    assert relative_spread([5.0]) == 0.0


def test_work_is_done_in_turns_after_a_warm_up() -> None:
    calls: list[str] = []

    pair = interleaved(lambda: calls.append("a"), lambda: calls.append("b"), repetitions=2)

    assert "".join(calls) == "ab" + "ab" + "ba"
    assert len(pair.first.seconds) == len(pair.second.seconds) == 2


def test_core_seconds_count_every_repetition() -> None:
    calls: list[int] = []

    timed = core_seconds(lambda: calls.append(1), repetitions=3)

    assert len(timed.seconds) == 3
    assert len(calls) == 4


def test_the_reference_took_these_seconds_for_the_whole_job() -> None:
    stages = 3 * 42 + 91 + 141 + 366 + 609 + 44_640 / 2048 * (1.28 + 12.8)

    assert reference.job_seconds(num_target_tokens=44_640, num_sources_mapped=2) == pytest.approx(stages)
    assert reference.padding_fraction() == pytest.approx(0.411, abs=1e-3)
