"""The plan of a job: which steps, in which order, needing what."""

from typing import Any

import pytest

from fusion.plan import plan_steps
from fusion.spec import FusionSpec
from fusion.spec_text import validate_spec
from tests.fusion.test_spec import spec_data


def spec_with(**changes: Any) -> FusionSpec:
    sources = [{"name": name, "model": {"path": f"/m/{name}"}} for name in ("a", "b")]
    return validate_spec(spec_data(sources=sources, **changes))


def test_steps_of_the_default_job() -> None:
    names = [step.name for step in plan_steps(spec_with())]
    assert names == [
        "prepare",
        "extract.target",
        "extract.a",
        "extract.b",
        "align",
        "train.fused",
        "train.control",
        "evaluate",
        "publish",
    ]


def test_every_need_comes_before() -> None:
    seen: set[str] = set()
    for step in plan_steps(spec_with()):
        assert set(step.needs) <= seen
        seen.add(step.name)


@pytest.mark.parametrize(
    ("strategy", "captured"),
    [
        ({"target_as_source": False}, ["a", "b"]),
        ({"target_as_source": False, "blending": {"skip_if_target_better": True}}, ["target", "a", "b"]),
    ],
)
def test_the_target_is_run_only_where_it_is_needed(strategy: dict[str, Any], captured: list[str]) -> None:
    steps = plan_steps(spec_with(strategy=strategy))
    assert [step.subject for step in steps if step.stage == "extract"] == captured


def test_without_control_nothing_is_trained_for_it() -> None:
    steps = plan_steps(spec_with(evaluation={"control": False}))
    assert [step.name for step in steps if step.stage == "train"] == ["train.fused"]
