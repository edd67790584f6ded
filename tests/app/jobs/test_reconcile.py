"""Lost workers, lost messages, outages."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.exc import DBAPIError

from app.db.base import db_time
from app.db.models import OutboxMessage, Step
from app.db.session import create_engine, in_transaction, read_only, transaction
from app.jobs import service
from app.jobs.lifecycle import JobStatus, StepStatus
from app.jobs.reconcile import Reconciler, ReconcileReport, reconcile
from tests.app.jobs import builders as given


def test_a_lost_step_is_taken_over(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    lost = given.claim(engine)
    given.expire_lease(engine, lost.step_id)

    report = in_transaction(engine, reconcile)
    again = given.claim(engine, worker_id="worker-2")

    assert report.num_requeued == 1
    assert (again.step_id, again.attempt) == (lost.step_id, 2)
    assert not given.complete(engine, lost), "the zombie must not finish"
    assert given.complete(engine, again)
    assert given.outcomes(engine, lost.step_id) == ["lost", "succeeded"]
    given.run_to_end(engine)
    assert given.job_now(engine, job.id).status == JobStatus.SUCCEEDED


def test_a_live_lease_is_left_alone(engine: Engine) -> None:
    given.submit_in_new_project(engine)
    given.claim(engine)

    assert in_transaction(engine, reconcile) == ReconcileReport()


def test_three_losses_without_progress_fail_the_step(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)

    for _ in range(3):
        given.expire_lease(engine, given.claim(engine).step_id)
        report = in_transaction(engine, reconcile)

    assert report.num_failed == 1
    failed = given.job_now(engine, job.id)
    assert failed.status == JobStatus.FAILED
    assert failed.error is not None
    assert failed.error["code"] == "worker_lost"


def test_losses_after_progress_go_on(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)

    for number in range(5):
        step = given.claim(engine)
        given.store_artifact(engine, step, kind="checkpoint", role=f"shard-{number}")
        given.expire_lease(engine, step.step_id)
        in_transaction(engine, reconcile)

    assert given.statuses(engine, job.id)["prepare"] == StepStatus.QUEUED


def test_a_cancelling_job_whose_worker_is_lost_ends_cancelled(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    step = given.claim(engine)
    in_transaction(engine, service.request_cancel, project_id=job.project_id, job_id=job.id)
    given.expire_lease(engine, step.step_id)

    report = in_transaction(engine, reconcile)

    assert report.num_cancelled == 1
    assert given.job_now(engine, job.id).status == JobStatus.CANCELLED


def test_two_reconcilers_at_once_count_one_loss(engine: Engine) -> None:
    project_id = given.make_project(engine)
    steps = []
    for _ in range(4):
        given.submit(engine, project_id)
        steps.append(given.claim(engine))
    for step in steps:
        given.expire_lease(engine, step.step_id)

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda _: in_transaction(engine, reconcile), range(4)))

    assert sum(report.num_requeued for report in reports) == len(steps)
    for step in steps:
        assert given.outcomes(engine, step.step_id) == ["lost"]


def test_a_ready_step_that_nobody_claimed_rings_again(engine: Engine) -> None:
    given.submit_in_new_project(engine)
    with transaction(engine) as session:
        session.query(OutboxMessage).delete()
    assert in_transaction(engine, reconcile).num_rings == 0, "too early"
    _age_queue(engine)

    assert in_transaction(engine, reconcile).num_rings == 1

    with read_only(engine) as session:
        assert session.scalar(select(func.count()).select_from(OutboxMessage)) == 1


def test_the_reconciler_waits_one_lease_after_its_start_and_after_a_gap(engine: Engine) -> None:
    given.submit_in_new_project(engine)
    clock = [1000.0]
    reconciler = Reconciler(engine, lease_seconds=60, now=lambda: clock[0])

    def lose_and_reconcile() -> int:
        step = given.try_claim(engine)
        if step is not None:
            given.expire_lease(engine, step.step_id)
        return reconciler.run_once().num_requeued

    at_start = lose_and_reconcile()
    clock[0] += 59
    before_a_lease = lose_and_reconcile()
    clock[0] += 1
    after_a_lease = lose_and_reconcile()
    clock[0] += 3600
    after_a_gap = lose_and_reconcile()

    assert (at_start, before_a_lease, after_a_lease, after_a_gap) == (0, 0, 1, 0)


def test_the_reconciler_waits_one_lease_after_an_outage(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'missing' / 'fusion.db'}")
    clock = [0.0]
    reconciler = Reconciler(engine, lease_seconds=10, now=lambda: clock[0])
    with pytest.raises(DBAPIError):
        reconciler.run_once()
    clock[0] += 10
    with pytest.raises(DBAPIError):
        reconciler.run_once()

    assert reconciler.may_expire_from == 20.0


def _age_queue(engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(update(Step).where(Step.status == "queued").values(ready_at=db_time(-3600)))
