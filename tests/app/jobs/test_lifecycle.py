"""The job's status as a function of its steps."""

import itertools

import pytest

from app.jobs.lifecycle import FINISHED_JOBS, Desired, JobStatus, StepStatus, job_status

P, Q, R = StepStatus.PENDING, StepStatus.QUEUED, StepStatus.RUNNING
S, F, C = StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.CANCELLED


@pytest.mark.parametrize(
    ("steps", "desired", "expected"),
    [
        ([Q, P, P], Desired.RUN, JobStatus.QUEUED),
        ([R, P, P], Desired.RUN, JobStatus.RUNNING),
        ([S, Q, P], Desired.RUN, JobStatus.RUNNING),
        ([S, S, S], Desired.RUN, JobStatus.SUCCEEDED),
        ([S, S, S], Desired.CANCEL, JobStatus.SUCCEEDED),
        ([S, F, C], Desired.RUN, JobStatus.FAILED),
        ([R, F, C], Desired.RUN, JobStatus.RUNNING),
        ([S, R, C], Desired.CANCEL, JobStatus.CANCELLING),
        ([S, C, C], Desired.CANCEL, JobStatus.CANCELLED),
        ([F, C, C], Desired.CANCEL, JobStatus.FAILED),
        ([S, R, P], Desired.PAUSE, JobStatus.PAUSING),
        ([S, Q, P], Desired.PAUSE, JobStatus.PAUSED),
        ([Q, P, P], Desired.CANCEL, JobStatus.CANCELLING),
    ],
)
def test_job_status(steps: list[StepStatus], desired: Desired, expected: JobStatus) -> None:
    assert job_status(steps, desired) is expected


@pytest.mark.parametrize("steps", list(itertools.product(StepStatus, repeat=3)))
def test_a_job_is_over_only_when_nothing_of_it_runs(steps: tuple[StepStatus, ...]) -> None:
    for desired in Desired:
        assert not (R in steps and job_status(steps, desired) in FINISHED_JOBS)


@pytest.mark.parametrize("steps", list(itertools.permutations([S, R, F, C])))
def test_the_order_of_steps_does_not_matter(steps: tuple[StepStatus, ...]) -> None:
    assert job_status(steps, Desired.RUN) is JobStatus.RUNNING
