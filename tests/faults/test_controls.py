"""Each safeguard is needed: the same scenario ends well with it, and is seen to end badly without it.

(`no_fsync` stands in `test_power_loss.py`.)
"""

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import redis
from sqlalchemy import ColumnElement, select

from app.db.models import Step
from app.db.session import read_only
from tests.faults.crowd import Crowd, spec_named
from tests.faults.hash_chain import NUM_SAMPLES
from tests.faults.history import ClientLog, Verdict, check_history
from tests.faults.processes import Process
from tests.faults.service import Service, running_service, wait_for

SLOW_SAMPLES = 0.2
"""A step then takes long enough to be caught in the middle."""
SLOWER_SAMPLES = 0.5
"""... and to be caught in its second half, which on a busy machine takes seconds."""
QUIET = {"FUSION_GC_SECONDS": "86400"}
PATIENCE_SECONDS = 30.0
RING_AGAIN_SECONDS = 16.0
FREEZE_TRIES = 20


@pytest.mark.parametrize("control", [None, "no_fence"])
def test_a_zombie_wakes_up(tmp_path: Path, control: str | None) -> None:
    with running_service(
        tmp_path, "sqlite", control=control, sample_seconds=SLOWER_SAMPLES, environment=QUIET
    ) as service:
        crowd = one_job(service)
        # Further than half, so that it ends before the other attempt, which begins at the start.
        wait_for(lambda: has_step(service, Step.done > NUM_SAMPLES / 2), what="half a step")
        zombie = busy_worker(service)
        frozen = [zombie.pid, *(stage.pid for stage in zombie.stages())]
        freeze_between_transactions(frozen, service.settings.data_dir / "fusion.db")
        wait_for(lambda: has_step(service, Step.attempt == 2), what="another attempt")
        for pid in frozen:
            signal_to(pid, signal.SIGCONT)
        wait_for(lambda: has_step(service, Step.status == "succeeded"), what="the end of a step")

        verdict = judge(service, crowd)

    assert bool(verdict.violations) is (control is not None), verdict.violations


@pytest.mark.parametrize("control", [None, "announce_once"])
def test_the_broker_forgets_everything(tmp_path: Path, control: str | None) -> None:
    with running_service(
        tmp_path, "sqlite", num_workers=0, num_celery_workers=1, control=control, environment=QUIET
    ) as service:
        assert service.redis is not None
        broker = redis.Redis(port=service.redis.port)
        (worker,) = service.workers
        signal_to(worker.pid, signal.SIGSTOP)
        # Until it waits no more: the broker would hand the ring to whoever asked before.
        wait_for(lambda: broker.info("clients")["blocked_clients"] == 0, what="a broker left alone")
        crowd = one_job(service)
        wait_for(lambda: broker.llen("fusion:cpu") > 0, what="a ring in the broker")
        broker.flushall()
        signal_to(worker.pid, signal.SIGCONT)

        is_taken = happens(lambda: has_step(service, Step.attempt == 1), within_seconds=RING_AGAIN_SECONDS)
        verdict = judge(service, crowd)

    assert is_taken is (control is None)
    assert verdict.violations == []


@pytest.mark.parametrize("control", [None, "no_idempotency"])
def test_a_request_is_repeated(tmp_path: Path, control: str | None) -> None:
    with running_service(tmp_path, "sqlite", num_workers=0, control=control) as service:
        log = ClientLog(sent={"job-twice"})
        with service.client() as client:
            for _ in range(2):
                job = client.submit(spec_named("job-twice"), idempotency_key="job-twice")
                log.told["job-twice"].add(job.id)
                client.cancel(job.id)
        log.cancelled.add("job-twice")

        verdict = check_history(service.engine, service.store, log)

    assert (verdict.num("double") > 0) is (control is not None), verdict.violations


@pytest.mark.parametrize("control", [None, "late_acknowledge"])
def test_a_message_is_done_with_before_its_work(tmp_path: Path, control: str | None) -> None:
    with running_service(
        tmp_path,
        "sqlite",
        num_workers=0,
        num_celery_workers=1,
        control=control,
        sample_seconds=SLOW_SAMPLES,
        environment=QUIET,
    ) as service:
        assert service.redis is not None
        broker = redis.Redis(port=service.redis.port)
        one_job(service)
        busy_worker(service)

        # What is not acknowledged would be delivered again after an hour, to whoever listens then.
        num_waiting = broker.hlen("fusion:unacked")

    assert num_waiting == (0 if control is None else 1)


def one_job(service: Service) -> Crowd:
    crowd = Crowd(service, seed=1, num_open=1, num_jobs=1, change_minds=False)
    crowd.start()
    wait_for(lambda: bool(crowd.open), what="a job")
    return crowd


def busy_worker(service: Service) -> Process:
    """The worker that runs a stage."""
    wait_for(lambda: any(worker.stages() for worker in service.workers), what="a running stage")
    return next(worker for worker in service.workers if worker.stages())


def has_step(service: Service, condition: ColumnElement[bool]) -> bool:
    with read_only(service.engine) as session:
        return session.scalar(select(Step.id).where(condition).limit(1)) is not None


def happens(condition: Callable[[], bool], *, within_seconds: float) -> bool:
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


def judge(service: Service, crowd: Crowd) -> Verdict:
    """Let the job end, by a cancel if it has not, and look at its history."""
    crowd.stop()
    with service.client() as client:
        for job_id, key in crowd.open.items():
            crowd.log.cancelled.add(key)
            client.cancel(job_id)
    crowd.settle(seconds=PATIENCE_SECONDS, keep_alive=service.restart_dead)
    for process in service.processes.values():
        process.stop()
    return check_history(service.engine, service.store, crowd.log)


def freeze_between_transactions(pids: list[int], database: Path) -> None:
    """Freeze processes, none of them in the middle of a write: that would hold up every other writer, too. So
    would a read where there is no write-ahead log."""
    for _ in range(FREEZE_TRIES):
        for pid in pids:
            signal_to(pid, signal.SIGSTOP)
        try:
            with closing(sqlite3.connect(database, timeout=1.0, isolation_level=None)) as connection:
                connection.execute("BEGIN EXCLUSIVE")
                connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            for pid in pids:
                signal_to(pid, signal.SIGCONT)
            time.sleep(0.05)
        else:
            return
    raise AssertionError("always in the middle of a write")


def signal_to(pid: int, number: signal.Signals) -> None:
    os.kill(pid, number)
