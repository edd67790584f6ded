"""Every pair of step states is an allowed move or a refused one, and the table below says which."""

import itertools

import pytest

from app.jobs import repository
from app.jobs.lifecycle import StepStatus, is_allowed

ALLOWED = {
    ("pending", "queued"),
    ("pending", "cancelled"),
    ("queued", "running"),
    ("queued", "cancelled"),
    ("running", "queued"),
    ("running", "succeeded"),
    ("running", "failed"),
    ("running", "cancelled"),
    ("failed", "queued"),
    ("cancelled", "pending"),
}
PAIRS = list(itertools.product(StepStatus, StepStatus))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_pair_is_allowed_or_refused(source: StepStatus, target: StepStatus) -> None:
    assert is_allowed(source, target) is ((source.value, target.value) in ALLOWED)


@pytest.mark.parametrize(("source", "target"), [pair for pair in PAIRS if not is_allowed(*pair)])
def test_the_repository_refuses_what_is_not_allowed(source: StepStatus, target: StepStatus) -> None:
    with pytest.raises(AssertionError):
        repository.move_step(None, "step-1", source=source, target=target, attempt=1)  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        repository.move_steps(None, "job-1", sources=(source,), target=target)  # type: ignore[arg-type]
