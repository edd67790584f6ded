"""How attempts end, on both databases."""

from sqlalchemy import Engine, select

from app.db.models import Model
from app.db.session import in_transaction, read_only
from app.jobs import service
from app.jobs.lifecycle import Instruction, JobStatus, StepStatus
from fusion.errors import ErrorDict, InternalError
from tests.app.jobs import builders as given

INTERNAL_ERROR: ErrorDict = InternalError("KeyError: 'x'", code="internal").to_dict()
TWO_TRAININGS = {"evaluation": {"control": True}}


def test_completing_every_step_makes_the_job_succeed_and_its_model_appear(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)

    order = given.run_to_end(engine)

    assert order == [
        "prepare",
        "extract.target",
        "extract.mpt",
        "align",
        "train.fused",
        "evaluate",
        "publish",
    ]
    ended = given.job_now(engine, job.id)
    assert ended.status == JobStatus.SUCCEEDED
    assert ended.started_at is not None
    assert ended.finished_at is not None
    with read_only(engine) as session:
        model = session.scalars(select(Model).where(Model.job_id == job.id)).one()
    assert (model.name, model.project_id) == ("small", job.project_id)
    assert model.artifact_id is not None


def test_figures_that_json_cannot_hold_do_not_fail_a_completion(engine: Engine) -> None:
    given.submit_in_new_project(engine)
    step = given.claim(engine)

    assert given.complete(engine, step, figures={"loss": float("inf"), "text": "a\x00b"})

    assert given.step_now(engine, step.step_id).figures == {"loss": None, "text": "a\ufffdb"}


def test_an_error_of_the_users_fails_the_job_at_once_and_keeps_what_finished(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    given.complete(engine, given.claim(engine))

    given.fail(engine, given.claim(engine), given.USER_ERROR)

    failed = given.job_now(engine, job.id)
    assert failed.status == JobStatus.FAILED
    assert failed.error is not None
    assert {key: failed.error[key] for key in ("code", "category", "hint", "retryable")} == {
        "code": "json_broken",
        "category": "user",
        "hint": "mend line 3",
        "retryable": False,
    }
    assert given.statuses(engine, job.id) == {
        "prepare": "succeeded",
        "extract.target": "failed",
        "extract.mpt": "cancelled",
        "align": "cancelled",
        "train.fused": "cancelled",
        "evaluate": "cancelled",
        "publish": "cancelled",
    }


def test_a_network_error_is_tried_again_later_and_not_for_ever(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    step = given.claim(engine)
    given.fail(engine, step, given.NETWORK_ERROR)
    assert given.statuses(engine, job.id)["prepare"] == StepStatus.QUEUED
    assert given.try_claim(engine) is None, "it backs off"

    for _ in range(4):
        given.make_ready_now(engine)
        given.fail(engine, given.claim(engine), given.NETWORK_ERROR)

    assert given.job_now(engine, job.id).status == JobStatus.FAILED
    assert given.outcomes(engine, step.step_id) == ["failed"] * 5


def test_a_mistake_of_ours_is_tried_once_more(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)

    given.fail(engine, given.claim(engine), INTERNAL_ERROR)
    given.make_ready_now(engine)
    given.fail(engine, given.claim(engine), INTERNAL_ERROR)

    assert given.job_now(engine, job.id).status == JobStatus.FAILED


def test_a_stored_checkpoint_renews_the_budget(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)

    for number in range(4):
        step = given.claim(engine)
        given.store_artifact(engine, step, kind="checkpoint", role=f"shard-{number}")
        given.fail(engine, step, INTERNAL_ERROR)
        given.make_ready_now(engine)

    assert given.job_now(engine, job.id).status == JobStatus.QUEUED


def test_releasing_costs_nothing(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)

    for _ in range(8):
        step = given.claim(engine)
        assert in_transaction(
            engine, service.release_step, step_id=step.step_id, attempt=step.attempt, reason="drain"
        )

    assert given.statuses(engine, job.id)["prepare"] == StepStatus.QUEUED
    assert given.outcomes(engine, step.step_id) == ["released"] * 8


def test_a_failure_stops_the_other_running_steps_and_the_job_waits_for_them(engine: Engine) -> None:
    job = given.submit_in_new_project(engine, **TWO_TRAININGS)
    given.complete(engine, given.claim(engine))
    first, second = given.claim(engine), given.claim(engine, worker_id="worker-2")

    given.fail(engine, first, given.USER_ERROR)

    fence = {"step_id": second.step_id, "attempt": second.attempt}
    assert given.job_now(engine, job.id).status == JobStatus.RUNNING
    assert in_transaction(engine, service.heartbeat, **fence, lease_seconds=60) is Instruction.CANCEL
    assert in_transaction(engine, service.confirm_cancelled, **fence)
    assert given.job_now(engine, job.id).status == JobStatus.FAILED
    assert given.step_now(engine, second.step_id).status_reason == "job_failed"


def test_two_needs_that_succeed_one_after_the_other_queue_their_dependant_once(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    given.complete(engine, given.claim(engine))
    first, second = given.claim(engine), given.claim(engine, worker_id="worker-2")

    given.complete(engine, first)
    halfway = given.statuses(engine, job.id)["align"]
    given.complete(engine, second)

    assert (halfway, given.statuses(engine, job.id)["align"]) == ("pending", "queued")
