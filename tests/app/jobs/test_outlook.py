"""When a job will be done, from what its steps still take."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.db.models import Step
from app.jobs.outlook import Remaining, seconds_left, simulate

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def remaining(name: str, seconds: float, *needs: str, is_running: bool = False) -> Remaining:
    return Remaining(name=name, seconds=seconds, needs=frozenset(needs), is_running=is_running)


def step(name: str, status: str, **values: Any) -> Step:
    return Step(id=name, name=name, status=status, weight=1.0, position=0, **values)


def half_way(name: str, *, ago: float = 0.0) -> Step:
    """10 of 20 in ten seconds, reported `ago` seconds before now."""
    reported_at = NOW - timedelta(seconds=ago)
    return step(
        name,
        "running",
        first_done=0,
        done=10,
        total=20,
        first_progress_at=reported_at - timedelta(seconds=10),
        progress_at=reported_at,
    )


def left(steps: list[Step], *, started_at: datetime | None = None, **expected: float) -> float | None:
    begun = {} if started_at is None else {one.id: started_at for one in steps}
    return seconds_left(steps, needs={}, expected=expected, attempt_started_at=begun, now=NOW)


def test_one_worker_does_one_step_after_another() -> None:
    assert (
        simulate([remaining("a", 5, is_running=True), remaining("b", 7, "a"), remaining("c", 1, "a")]) == 13
    )


def test_as_many_steps_at_a_time_as_run_now() -> None:
    steps = [remaining("a", 5, is_running=True), remaining("b", 9, is_running=True)]

    assert simulate([*steps, remaining("c", 3)]) == 9
    assert simulate([*steps, remaining("c", 3, "a", "b")]) == 12


def test_what_runs_goes_by_its_own_rate_and_the_rest_by_what_such_steps_took() -> None:
    assert left([half_way("train.fused"), step("publish", "pending")], publish=4.0) == 14.0


def test_the_time_since_the_last_report_counts() -> None:
    assert left([half_way("train.fused", ago=4)]) == 6.0
    assert left([half_way("train.fused", ago=40)]) == 0.0


def test_a_step_without_a_rate_goes_by_its_expected_time() -> None:
    begun = NOW - timedelta(seconds=30)

    assert left([step("align", "running")], started_at=begun, align=50.0) == 20.0


@pytest.mark.parametrize("expected", [{}, {"align": 20.0}])
def test_nobody_can_tell_of_a_step_that_has_no_like_or_takes_longer(expected: dict[str, float]) -> None:
    assert left([step("align", "running")], started_at=NOW - timedelta(seconds=30), **expected) is None


def test_one_unknown_step_makes_the_job_unknown() -> None:
    assert left([half_way("train.fused"), step("publish", "pending")]) is None


def test_what_is_done_takes_no_time() -> None:
    assert left([step("prepare", "succeeded"), half_way("align")]) == 10.0
    assert left([step("prepare", "succeeded")]) is None
