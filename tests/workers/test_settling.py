"""Commits whose answer was lost, on a real PostgreSQL behind a proxy that breaks connections in a COMMIT."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy.exc import DataError

from app.db.session import read_only, transaction
from app.jobs import service as jobs
from app.jobs.lifecycle import AttemptOutcome
from fusion.errors import CorpusInvalid
from tests.support.fault_proxy import FaultProxy, When, proxied_database
from tests.workers.conftest import Workshop
from workers.lease import Lease
from workers.progress import LeaseLostError
from workers.settling import claim, conclude

NUM_CUTS = int(os.environ.get("FUSION_TEST_CUTS", "5"))
"""Per moment and write; set it higher for a long run."""
USER_ERROR = CorpusInvalid("line 3 is not JSON", code="json_broken").to_dict()
ENDINGS: dict[AttemptOutcome, tuple[Callable[..., bool], dict[str, Any], str]] = {
    AttemptOutcome.SUCCEEDED: (jobs.complete_step, {"artifact_id": "art-1", "figures": {}}, "succeeded"),
    AttemptOutcome.FAILED: (jobs.fail_step, {"error": USER_ERROR}, "failed"),
    AttemptOutcome.RELEASED: (jobs.release_step, {"reason": "drain"}, "queued"),
}


@pytest.fixture
def proxied(postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, FaultProxy]]:
    monkeypatch.setattr("workers.settling.RETRY_SECONDS", 0.01)
    with proxied_database(postgres_database) as proxied:
        yield proxied


@pytest.fixture
def proxy(proxied: tuple[str, FaultProxy]) -> FaultProxy:
    return proxied[1]


@pytest.fixture
def workshop(make_workshop: Callable[..., Workshop], proxied: tuple[str, FaultProxy]) -> Workshop:
    return make_workshop(database_url=proxied[0])


def quiet_lease(workshop: Workshop, step: jobs.ClaimedStep) -> Lease:
    """A lease that nobody renews, so that the only commits are those of the test."""
    return Lease(workshop.worker.engine, step, lease_seconds=60, heartbeat_seconds=60, max_offline_seconds=60)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("outcome", list(ENDINGS))
def test_an_attempt_ends_exactly_once(
    workshop: Workshop, proxy: FaultProxy, outcome: AttemptOutcome, when: When
) -> None:
    function, values, status = ENDINGS[outcome]
    for number in range(NUM_CUTS):
        job_id = workshop.submit(name=f"job-{number}")
        step = claim(workshop.worker)
        assert step is not None
        proxy.cut_next_commit(when)

        conclude(
            workshop.worker, step, function, outcome=outcome, lease=quiet_lease(workshop, step), **values
        )

        assert proxy.num_commit_cuts == number + 1
        with read_only(workshop.worker.engine) as session:
            ended = jobs.attempt_outcome(session, step_id=step.step_id, attempt=step.attempt)
            shown = {one.name: one.status for one in workshop.steps(step.job_id).values()}
        endings = [event for event in workshop.events(step.job_id) if event.type.startswith("step_")]
        assert (ended, shown[step.name], len(endings)) == (outcome, status, 2)
        _cancel(workshop, job_id)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_claim_that_got_no_answer_is_taken_up_or_was_none(
    workshop: Workshop, proxy: FaultProxy, when: When
) -> None:
    for number in range(NUM_CUTS):
        job_id = workshop.submit(name=f"job-{number}")
        proxy.cut_next_commit(when)

        step = claim(workshop.worker) or claim(workshop.worker)

        assert proxy.num_commit_cuts == number + 1
        assert step is not None
        assert (step.job_id, step.attempt) == (job_id, 1)
        assert workshop.steps(job_id)["prepare"].status == "running"
        _cancel(workshop, job_id)


def test_what_somebody_else_ended_is_not_taken_for_ours(workshop: Workshop) -> None:
    workshop.submit()
    step = claim(workshop.worker)
    assert step is not None
    workshop.lose(step.job_id)

    with pytest.raises(LeaseLostError):
        conclude(
            workshop.worker,
            step,
            jobs.complete_step,
            outcome=AttemptOutcome.SUCCEEDED,
            lease=quiet_lease(workshop, step),
            artifact_id="art-1",
            figures={},
        )


def test_what_the_database_refuses_is_not_repeated(workshop: Workshop) -> None:
    workshop.submit()
    step = claim(workshop.worker)
    assert step is not None

    with pytest.raises(DataError):
        conclude(
            workshop.worker,
            step,
            jobs.complete_step,
            outcome=AttemptOutcome.SUCCEEDED,
            lease=quiet_lease(workshop, step),
            artifact_id="longer than an id" * 10,
            figures={},
        )


def _cancel(workshop: Workshop, job_id: str) -> None:
    """Take a job out of the way of the next one."""
    with transaction(workshop.worker.engine) as session:
        job = jobs.request_cancel(session, project_id=workshop.job(job_id).project_id, job_id=job_id)
    for step in workshop.steps(job.id).values():
        if step.status == "running":
            with transaction(workshop.worker.engine) as session:
                jobs.confirm_cancelled(session, step_id=step.id, attempt=step.attempt)
