"""What finished steps say of steps to come."""

from dataclasses import replace
from typing import Any

import pytest

from app.db.models import Step
from app.jobs.experience import Measured, Task, expected_seconds, measured_steps
from fusion.spec import FusionSpec
from tests.app.jobs.builders import REVISION, spec_data

TASK = Task(job_id="job-1", stage="train", model="a", work=100.0, num_parameters=10.0)
SPEC = FusionSpec.model_validate(spec_data()).model_dump(mode="json")
PREPARED = {
    "num_bytes": 1000,
    "splits": {
        "train": {"num_bytes": 900, "num_windows": 30},
        "held_out": {"num_bytes": 100, "num_windows": 4},
    },
    "models": {"target": {"num_parameters": 50}, "mpt": {"num_parameters": 70}},
}


def measured(*, seconds: float = 30.0, startup: float = 10.0, **changes: Any) -> Measured:
    return Measured(task=replace(TASK, **changes), seconds=seconds, startup_seconds=startup)


def seconds_of(task: Task, *found: Measured) -> float | None:
    expected = expected_seconds(task, found)
    return None if expected is None else expected.seconds


def test_equal_work_takes_as_long() -> None:
    assert seconds_of(TASK, measured()) == 30.0


def test_twice_the_work_takes_twice_as_long_but_starts_once() -> None:
    assert seconds_of(replace(TASK, work=200.0), measured()) == 50.0


def test_another_model_is_scaled_by_its_parameters() -> None:
    assert seconds_of(replace(TASK, model="b", num_parameters=30.0), measured()) == 70.0


@pytest.mark.parametrize("unknown", [{"work": None}, {"model": "b", "num_parameters": None}])
def test_what_is_unknown_scales_nothing(unknown: dict[str, Any]) -> None:
    assert seconds_of(replace(TASK, **unknown), measured()) == 30.0


def test_the_same_model_counts_for_more_than_the_same_job_and_that_for_more_than_others() -> None:
    same_model = measured(seconds=40.0, job_id="job-0")
    same_job = measured(seconds=50.0, model="b")
    other = measured(seconds=60.0, model="c", job_id="job-0")

    assert seconds_of(TASK, same_model, same_job, other) == 40.0
    assert seconds_of(TASK, same_job, other) == 50.0
    assert seconds_of(TASK, other) == 60.0


def test_other_stages_say_nothing() -> None:
    assert expected_seconds(TASK, [measured(stage="extract")]) is None


def test_several_give_their_median_and_their_range() -> None:
    found = expected_seconds(TASK, [measured(seconds=20.0), measured(seconds=30.0), measured(seconds=70.0)])

    assert found is not None
    assert (found.low, found.seconds, found.high, found.num_measured) == (20.0, 30.0, 70.0, 3)


def done(name: str, **values: Any) -> Step:
    stage, _, subject = name.partition(".")
    return Step(
        id=name, job_id="job-1", name=name, stage=stage, subject=subject or None, status="succeeded", **values
    )


def test_a_step_is_measured_with_its_model_its_work_and_its_start() -> None:
    steps = [done("prepare", figures=PREPARED), done("extract.mpt", figures={"seconds": 8.0, "tokens": 10})]

    _, extracted = measured_steps(SPEC, steps, {"prepare": 3.0, "extract.mpt": 12.0})

    assert extracted.task == Task(
        job_id="job-1", stage="extract", model=f"org/mpt@{REVISION}", work=900, num_parameters=70
    )
    assert (extracted.seconds, extracted.startup_seconds) == (12.0, 4.0)


def test_what_the_cache_answered_is_not_taken_for_speed() -> None:
    half = done("extract.mpt", figures={"seconds": 8.0, "tokens": 10, "cached_tokens": 5})
    whole = done("extract.mpt", figures={"seconds": 1.0, "tokens": 10, "cached_tokens": 10})

    assert [one.seconds for one in measured_steps(SPEC, [half], {"extract.mpt": 12.0})] == [20.0]
    assert measured_steps(SPEC, [whole], {"extract.mpt": 12.0}) == []
