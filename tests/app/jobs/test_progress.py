"""Shares, speakers and estimates."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.db.models import Step
from app.jobs.progress import job_progress, step_progress

START = datetime(2026, 1, 1, tzinfo=UTC)


def step(name: str = "train.fused", *, weight: float = 1.0, status: str = "running", **values: Any) -> Step:
    return Step(name=name, weight=weight, status=status, position=0, **values)


def reported(*, first_done: float, done: float, total: float, after_seconds: float) -> Step:
    return step(
        first_done=first_done,
        done=done,
        total=total,
        first_progress_at=START,
        progress_at=START + timedelta(seconds=after_seconds),
    )


def test_the_estimate_follows_the_steps_own_rate() -> None:
    assert step_progress(reported(first_done=0, done=20, total=100, after_seconds=10)).eta_seconds == 40


def test_a_resumed_attempt_is_not_credited_with_what_it_found() -> None:
    assert step_progress(reported(first_done=80, done=90, total=100, after_seconds=10)).eta_seconds == 10


@pytest.mark.parametrize(
    "unknown",
    [
        step(),
        reported(first_done=0, done=0, total=100, after_seconds=10),
        reported(first_done=0, done=5, total=100, after_seconds=0.1),
        step(status="queued", done=1, total=2, first_done=0, first_progress_at=START, progress_at=START),
    ],
)
def test_there_is_no_estimate_without_a_rate(unknown: Step) -> None:
    assert step_progress(unknown).eta_seconds is None


def test_percent_weighs_the_steps() -> None:
    steps = [
        step("prepare", weight=1, status="succeeded"),
        step("train.fused", weight=8, done=1, total=2),
        step("publish", weight=1, status="pending"),
    ]

    progress = job_progress(steps)

    assert (progress.percent, progress.step) == (50.0, "train.fused")


def test_a_step_that_counted_to_its_end_is_not_done_before_it_succeeded() -> None:
    assert job_progress([step(done=10, total=10)]).percent == 99.0
    assert job_progress([step(status="succeeded")]).percent == 100.0


def test_the_step_that_failed_speaks_for_a_failed_job() -> None:
    steps = [
        step("prepare", status="succeeded"),
        step("align", status="failed"),
        step("x", status="cancelled"),
    ]

    assert job_progress(steps).step == "align"
