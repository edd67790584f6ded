"""Claims, heartbeats and reports, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import Engine, select

from app.db.models import MetricPoint, Worker
from app.db.session import in_transaction, read_only
from app.jobs import service
from app.jobs.lifecycle import Instruction, JobStatus, StepStatus
from tests.app.jobs import builders as given


def test_a_claim_hands_over_everything_the_step_needs(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    prepare = given.claim(engine)
    given.complete(engine, prepare)

    step = given.claim(engine)

    assert (prepare.name, prepare.attempt, prepare.inputs) == ("prepare", 1, {})
    assert (step.stage, step.subject, step.job_id) == ("extract", "target", job.id)
    assert set(step.inputs) == {"prepare"}
    assert step.spec["strategy"]["extraction"]["top_k"] == 12
    assert given.job_now(engine, job.id).status == JobStatus.RUNNING


def test_a_claim_takes_only_steps_of_its_resources(engine: Engine) -> None:
    given.submit_in_new_project(engine)

    assert given.try_claim(engine, resources=("gpu",)) is None
    assert given.try_claim(engine, resources=("cpu",)) is not None


def test_the_oldest_job_goes_first(engine: Engine) -> None:
    project_id = given.make_project(engine)
    first, second = given.submit(engine, project_id), given.submit(engine, project_id)

    claimed = [given.claim(engine).job_id for _ in range(2)]

    assert claimed == sorted([first.id, second.id])


def test_parallel_workers_never_get_the_same_step(engine: Engine) -> None:
    project_id = given.make_project(engine)
    jobs = [given.submit(engine, project_id) for _ in range(12)]
    barrier = Barrier(6)

    def work(number: int) -> list[str]:
        barrier.wait()
        mine = []
        while (step := given.try_claim(engine, worker_id=f"worker-{number}")) is not None:
            mine.append(step.step_id)
        return mine

    with ThreadPoolExecutor(6) as pool:
        claimed = [step_id for mine in pool.map(work, range(6)) for step_id in mine]

    assert len(claimed) == len(set(claimed)) == len(jobs)


def test_parallel_workers_run_one_job_to_its_end(engine: Engine) -> None:
    sources = [
        {"name": name, "model": {"hub": f"org/{name}", "revision": given.REVISION}}
        for name in ("a", "b", "c")
    ]
    job = given.submit_in_new_project(engine, sources=sources)
    barrier = Barrier(4)

    def work(number: int) -> None:
        barrier.wait()
        while given.job_now(engine, job.id).status != JobStatus.SUCCEEDED:
            step = given.try_claim(engine, worker_id=f"worker-{number}")
            if step is not None:
                assert given.complete(engine, step)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))

    history = given.events(engine, job.id)
    assert [event.seq for event in history] == list(range(1, len(history) + 1))
    assert set(given.statuses(engine, job.id).values()) == {StepStatus.SUCCEEDED}


def test_a_cancel_and_a_claim_at_once_leave_one_truth(engine: Engine) -> None:
    project_id = given.make_project(engine)
    jobs = [given.submit(engine, project_id) for _ in range(8)]

    def cancel(job_id: str) -> None:
        in_transaction(engine, service.request_cancel, project_id=project_id, job_id=job_id)

    def claim_until_empty() -> list[service.ClaimedStep]:
        steps = []
        while (step := given.try_claim(engine)) is not None:
            steps.append(step)
        return steps

    with ThreadPoolExecutor(4) as pool:
        claims = [pool.submit(claim_until_empty) for _ in range(2)]
        list(pool.map(cancel, [job.id for job in jobs]))
        running = {step.job_id for claim in claims for step in claim.result()}

    for job in jobs:
        expected = JobStatus.CANCELLING if job.id in running else JobStatus.CANCELLED
        assert given.job_now(engine, job.id).status == expected


@pytest.mark.parametrize(
    "report", ["heartbeat", "progress", "metrics", "note", "complete", "fail", "release"]
)
def test_a_stale_attempt_is_refused(engine: Engine, report: str) -> None:
    given.submit_in_new_project(engine)
    stale = given.claim(engine)
    in_transaction(engine, service.release_step, step_id=stale.step_id, attempt=stale.attempt, reason="drain")
    current = given.claim(engine, worker_id="worker-2")
    fence = {"step_id": stale.step_id, "attempt": stale.attempt}

    refused: object
    match report:
        case "heartbeat":
            refused = (
                in_transaction(engine, service.heartbeat, **fence, lease_seconds=60) is not Instruction.LOST
            )
        case "progress":
            refused = in_transaction(
                engine, service.record_progress, **fence, done=1, total=2, unit="windows", tokens=3
            )
        case "metrics":
            refused = in_transaction(engine, service.record_metrics, **fence, points=[(1, {"loss": 1.0})])
        case "note":
            refused = in_transaction(engine, service.record_note, **fence, message="hello", details={})
        case "complete":
            refused = given.complete(engine, stale)
        case "fail":
            refused = given.fail(engine, stale, given.USER_ERROR)
        case _:
            refused = in_transaction(engine, service.release_step, **fence, reason="drain")

    assert refused is False
    step = given.step_now(engine, current.step_id)
    assert (step.status, step.attempt, step.worker_id) == (StepStatus.RUNNING, 2, "worker-2")


def test_a_heartbeat_extends_the_lease_and_brings_instructions(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    step = given.claim(engine, lease_seconds=5)
    before = given.step_now(engine, step.step_id).lease_ends_at
    fence = {"step_id": step.step_id, "attempt": step.attempt}

    first = in_transaction(engine, service.heartbeat, **fence, lease_seconds=60)
    in_transaction(engine, service.request_cancel, project_id=job.project_id, job_id=job.id)
    second = in_transaction(engine, service.heartbeat, **fence, lease_seconds=60)

    after = given.step_now(engine, step.step_id).lease_ends_at
    assert before is not None
    assert after is not None
    assert (after - before).total_seconds() > 50
    assert (first, second) == (Instruction.CONTINUE, Instruction.CANCEL)


def test_metrics_that_are_repeated_replace_what_was_there(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    step = given.claim(engine)
    fence = {"step_id": step.step_id, "attempt": step.attempt}

    in_transaction(
        engine, service.record_metrics, **fence, points=[(1, {"loss": 3.0}), (2, {"loss": float("nan")})]
    )
    in_transaction(engine, service.record_metrics, **fence, points=[(2, {"loss": 2.0})])

    with read_only(engine) as session:
        query = select(MetricPoint).where(MetricPoint.job_id == job.id).order_by(MetricPoint.metric_step)
        points = [(point.seq, point.metric_step, point.values) for point in session.scalars(query)]
    assert points == [(1, 1, {"loss": 3.0}), (3, 2, {"loss": 2.0})]


def test_finished_parts_of_earlier_attempts_are_handed_over(engine: Engine) -> None:
    given.submit_in_new_project(engine)
    first = given.claim(engine)
    part = given.store_artifact(engine, first, kind="checkpoint", role="shard-00000")
    in_transaction(engine, service.release_step, step_id=first.step_id, attempt=first.attempt, reason="drain")

    second = given.claim(engine)

    assert second.step_id == first.step_id
    assert second.checkpoint_artifact_ids == {"shard-00000": part}


def test_workers_that_ask_are_remembered(engine: Engine) -> None:
    given.try_claim(engine, worker_id="worker-9", resources=("gpu",))
    given.try_claim(engine, worker_id="worker-9", resources=("cpu", "gpu"))

    with read_only(engine) as session:
        worker = session.scalars(select(Worker)).one()
    assert (worker.id, worker.resources) == ("worker-9", ["cpu", "gpu"])
