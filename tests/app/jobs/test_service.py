"""What users do with jobs, on both databases."""

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from app.db.models import Job, OutboxMessage, Step
from app.db.session import in_transaction, read_only
from app.errors import Conflict, NotFound
from app.jobs import service
from app.jobs.lifecycle import JobStatus
from fusion.spec import FusionSpec
from tests.app.jobs import builders as given


def test_a_submitted_job_has_its_steps_and_rings_for_the_first(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)

    assert list(given.statuses(engine, job.id).items())[:2] == [
        ("prepare", "queued"),
        ("extract.target", "pending"),
    ]
    assert [event.type for event in given.events(engine, job.id)] == ["job_submitted"]
    with read_only(engine) as session:
        assert session.scalars(select(OutboxMessage.resource)).all() == ["cpu"]


def test_a_submission_that_is_rolled_back_leaves_nothing(engine: Engine) -> None:
    project_id = given.make_project(engine)
    spec = FusionSpec.model_validate(given.spec_data())

    def submit_and_stumble(session: Session) -> None:
        service.submit(session, project_id=project_id, spec=spec, created_by=None)
        raise RuntimeError("stumbled")

    with pytest.raises(RuntimeError, match="stumbled"):
        in_transaction(engine, submit_and_stumble)

    with read_only(engine) as session:
        for table in (Job, Step, OutboxMessage):
            assert session.scalar(select(func.count()).select_from(table)) == 0


def test_another_projects_job_is_not_there(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    stranger = given.make_project(engine, "stranger")

    for act in (service.get_job, service.request_cancel, service.retry):
        with pytest.raises(NotFound):
            in_transaction(engine, act, project_id=stranger, job_id=job.id)


def test_cancelling_a_waiting_job_ends_it_at_once(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)

    cancelled = in_transaction(engine, service.request_cancel, project_id=job.project_id, job_id=job.id)

    assert cancelled.status == JobStatus.CANCELLED
    assert set(given.statuses(engine, job.id).values()) == {"cancelled"}
    assert given.try_claim(engine) is None


def test_cancelling_a_running_job_waits_for_its_worker(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    step = given.claim(engine)

    cancelling = in_transaction(engine, service.request_cancel, project_id=job.project_id, job_id=job.id)
    in_transaction(engine, service.confirm_cancelled, step_id=step.step_id, attempt=step.attempt)

    assert cancelling.status == JobStatus.CANCELLING
    ended = given.job_now(engine, job.id)
    assert (ended.status, ended.error) == (JobStatus.CANCELLED, None)
    assert ended.finished_at is not None


def test_a_step_that_finishes_while_its_job_is_cancelled_keeps_its_output(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    step = given.claim(engine)
    in_transaction(engine, service.request_cancel, project_id=job.project_id, job_id=job.id)

    assert given.complete(engine, step)

    assert given.statuses(engine, job.id)["prepare"] == "succeeded"
    assert given.job_now(engine, job.id).status == JobStatus.CANCELLED


def test_a_retry_goes_on_where_the_job_failed(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    given.complete(engine, given.claim(engine))
    given.fail(engine, given.claim(engine), given.USER_ERROR)

    retried = in_transaction(engine, service.retry, project_id=job.project_id, job_id=job.id)
    order = given.run_to_end(engine)

    assert (retried.status, retried.error, retried.finished_at) == (JobStatus.RUNNING, None, None)
    assert order == ["extract.target", "extract.mpt", "align", "train.fused", "evaluate", "publish"]
    assert given.job_now(engine, job.id).status == JobStatus.SUCCEEDED


def test_a_retry_renews_the_budgets(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    for _ in range(5):
        given.fail(engine, given.claim(engine), given.NETWORK_ERROR)
        given.make_ready_now(engine)
    in_transaction(engine, service.retry, project_id=job.project_id, job_id=job.id)

    given.fail(engine, given.claim(engine), given.NETWORK_ERROR)

    assert given.statuses(engine, job.id)["prepare"] == "queued"


@pytest.mark.parametrize("state", ["queued", "running", "succeeded", "cancelled"])
def test_only_a_failed_job_can_be_retried(engine: Engine, state: str) -> None:
    job = given.submit_in_new_project(engine)
    match state:
        case "running":
            given.claim(engine)
        case "succeeded":
            given.run_to_end(engine)
        case "cancelled":
            in_transaction(engine, service.request_cancel, project_id=job.project_id, job_id=job.id)

    with pytest.raises(Conflict, match=state):
        in_transaction(engine, service.retry, project_id=job.project_id, job_id=job.id)
