"""The triggers of both databases refuse every forged move and every change of history."""

import importlib
import itertools

import pytest
from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from app.db.base import db_time, new_id
from app.db.models import Artifact, Attempt, AuditEvent, Event, Job, Project, Step
from app.db.session import read_only, transaction
from app.jobs.lifecycle import MOVES, AttemptOutcome, JobStatus, StepStatus, is_allowed
from tests.app.jobs import builders as given

ROUTES: dict[StepStatus, tuple[StepStatus, ...]] = {
    StepStatus.PENDING: (),
    StepStatus.QUEUED: (StepStatus.QUEUED,),
    StepStatus.RUNNING: (StepStatus.QUEUED, StepStatus.RUNNING),
    StepStatus.SUCCEEDED: (StepStatus.QUEUED, StepStatus.RUNNING, StepStatus.SUCCEEDED),
    StepStatus.FAILED: (StepStatus.QUEUED, StepStatus.RUNNING, StepStatus.FAILED),
    StepStatus.CANCELLED: (StepStatus.CANCELLED,),
}
"""How a step legally comes to be in a state."""
FINISHED_STEPS = [status for status in StepStatus if status not in ("pending", "queued", "running")]
FINISHED_JOBS = [JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED]


def test_the_triggers_know_the_moves_of_the_product() -> None:
    frozen = importlib.import_module("migrations.versions.0002_guarded_moves").MOVES

    assert {source: set(targets) for source, targets in frozen.items()} == {
        source.value: {target.value for target in targets} for source, targets in MOVES.items()
    }


@pytest.fixture(scope="module")
def pairs() -> list[tuple[StepStatus, StepStatus]]:
    return list(itertools.product(StepStatus, StepStatus))


def test_every_pair_of_states_is_a_move_or_refused(
    engine: Engine, pairs: list[tuple[StepStatus, StepStatus]]
) -> None:
    for source, target in pairs:
        step_id = step_in(engine, source)
        claims = (source, target) == (StepStatus.QUEUED, StepStatus.RUNNING)
        allowed = is_allowed(source, target) or (source is target and source not in FINISHED_STEPS)

        moved = was_accepted(engine, step_id, status=target, attempt=Step.attempt + int(claims))

        assert moved is allowed, f"{source} -> {target}"


@pytest.mark.parametrize("source", list(StepStatus))
@pytest.mark.parametrize("change", [-1, 1, 2])
def test_an_attempt_rises_by_one_with_a_claim_and_never_otherwise(
    engine: Engine, source: StepStatus, change: int
) -> None:
    for target in [source, *MOVES[source]]:
        claims = (source, target) == (StepStatus.QUEUED, StepStatus.RUNNING)
        step_id = step_in(engine, source)

        moved = was_accepted(engine, step_id, status=target, attempt=Step.attempt + change)

        assert moved is (claims and change == 1), f"{source} -> {target}"


@pytest.mark.parametrize("status", FINISHED_STEPS)
@pytest.mark.parametrize("values", [{"artifact_id": "art-x"}, {"error": {"code": "x"}}, {"num_losses": 7}])
def test_a_finished_step_does_not_change(
    engine: Engine, status: StepStatus, values: dict[str, object]
) -> None:
    assert not was_accepted(engine, step_in(engine, status), **values)


@pytest.mark.parametrize("status", FINISHED_JOBS)
def test_a_finished_job_changes_only_its_labels_and_its_history(engine: Engine, status: JobStatus) -> None:
    refused: list[dict[str, object]] = [
        {"desired": "cancel"},
        {"error": {"code": "x"}},
        {"spec": {}},
        {"finished_at": db_time()},
        {"stage": "publish"},
        {"strategy": "paper"},
        {"cloned_from_id": "job-x"},
        *({"status": other} for other in JobStatus if other != status),
    ]
    if status is JobStatus.FAILED:
        refused = [
            values for values in refused if values.get("status") not in set(JobStatus) - {*FINISHED_JOBS}
        ]
    job_id = job_in(engine, status)

    for values in refused:
        assert not job_was_changed(engine, job_id, **values), values
    assert job_was_changed(engine, job_id, name="another name", last_event_seq=Job.last_event_seq + 1)


def test_a_failed_job_can_be_taken_up_again(engine: Engine) -> None:
    job_id = job_in(engine, JobStatus.FAILED)

    assert job_was_changed(engine, job_id, status="queued", desired="run", error=None, finished_at=None)


def test_a_cancel_is_not_taken_back(engine: Engine) -> None:
    job = given.submit_in_new_project(engine, name="small")
    assert job_was_changed(engine, job.id, desired="cancel")

    assert not job_was_changed(engine, job.id, desired="run")


def test_history_is_only_appended_to(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    step = given.claim(engine)
    with transaction(engine) as session:
        session.add(AuditEvent(project_id=job.project_id, key_id="key-x", action="x", outcome="done"))
    forgeries = [
        update(Event).values(message="nothing happened"),
        delete(Event),
        delete(Attempt),
        update(Attempt).values(started_at=db_time(-60)),
        update(Attempt).values(worker_id="somebody-else"),
        update(AuditEvent).values(key_id="somebody-else"),
        delete(AuditEvent),
    ]
    for forgery in forgeries:
        with pytest.raises(IntegrityError), transaction(engine) as session:
            session.execute(forgery)
    given.complete(engine, step)

    with pytest.raises(IntegrityError), transaction(engine) as session:
        session.execute(update(Attempt).values(outcome=AttemptOutcome.LOST))
    assert len(given.events(engine, job.id)) > 2


def test_the_history_of_a_purged_job_may_go_and_no_other(engine: Engine) -> None:
    kept, purged = (given.submit(engine, _project(engine)) for _ in range(2))
    given.fail(engine, given.claim(engine), given.USER_ERROR)
    given.fail(engine, given.claim(engine), given.USER_ERROR)
    with transaction(engine) as session:
        marks = {"deleted_at": db_time(), "purged_at": db_time()}
        session.execute(update(Job).where(Job.id == purged.id).values(**marks))
        session.execute(update(Job).where(Job.id == kept.id).values(deleted_at=db_time()))

    with transaction(engine) as session:
        session.execute(delete(Event).where(Event.job_id == purged.id))
    with pytest.raises(IntegrityError), transaction(engine) as session:
        session.execute(delete(Event).where(Event.job_id == kept.id))

    assert (len(given.events(engine, purged.id)), len(given.events(engine, kept.id)) > 2) == (0, True)


def test_a_step_has_one_running_attempt(engine: Engine) -> None:
    given.submit_in_new_project(engine)
    step = given.claim(engine)
    with read_only(engine) as session:
        attempt = session.scalars(select(Attempt)).one()
        again = {"step_id": step.step_id, "attempt": 2, "outcome": "running", "started_at": db_time()}
        same = {name: getattr(attempt, name) for name in ("job_id", "project_id", "worker_id")}

    with pytest.raises(IntegrityError), transaction(engine) as session:
        session.execute(insert(Attempt).values(**same, **again))


def test_a_step_has_one_artifact_in_a_role(engine: Engine) -> None:
    given.submit_in_new_project(engine)
    step = given.claim(engine)
    given.store_artifact(engine, step, kind="output", role="prepare")
    with read_only(engine) as session:
        artifact = session.scalars(select(Artifact)).one()
        names = [column.name for column in Artifact.__table__.columns if column.name != "id"]
        same = {name: getattr(artifact, name) for name in names}

    with pytest.raises(IntegrityError), transaction(engine) as session:
        session.execute(insert(Artifact).values(id=new_id("art"), **same))


def step_in(engine: Engine, status: StepStatus) -> str:
    """A new step that came to `status` along legal moves."""
    job = given.submit(engine, _project(engine))
    with transaction(engine) as session:
        step = session.scalars(select(Step).where(Step.job_id == job.id, Step.status == "pending")).first()
        assert step is not None
        for target in ROUTES[status]:
            claimed = int(target is StepStatus.RUNNING)
            session.execute(
                update(Step).where(Step.id == step.id).values(status=target, attempt=Step.attempt + claimed)
            )
        return step.id


def job_in(engine: Engine, status: JobStatus) -> str:
    job = given.submit(engine, _project(engine))
    with transaction(engine) as session:
        session.execute(update(Job).where(Job.id == job.id).values(status=status))
    return job.id


def was_accepted(engine: Engine, step_id: str, **values: object) -> bool:
    try:
        with transaction(engine) as session:
            session.execute(update(Step).where(Step.id == step_id).values(**values))
    except IntegrityError:
        return False
    return True


def job_was_changed(engine: Engine, job_id: str, **values: object) -> bool:
    try:
        with transaction(engine) as session:
            session.execute(update(Job).where(Job.id == job_id).values(**values))
    except IntegrityError:
        return False
    return True


def _project(engine: Engine) -> str:
    with read_only(engine) as session:
        found = session.scalar(select(Project.id))
    return found or given.make_project(engine)
