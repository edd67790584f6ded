"""Redis is a doorbell: jobs end without it, and while it forgets everything once a second."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.crowd import Crowd
from tests.faults.history import check_history
from tests.faults.processes import RedisServer
from tests.faults.service import Service, running_service, wait_for

NUM_JOBS = 3
SETTLE_SECONDS = 120.0


@pytest.mark.parametrize("plague", ["gone", "forgetful"])
def test_every_job_ends(tmp_path: Path, plague: str) -> None:
    with running_service(
        tmp_path,
        "sqlite",
        num_workers=0,
        num_celery_workers=2,
        environment={"FUSION_GC_SECONDS": "86400", "FUSION_LOG_LEVEL": "INFO"},
    ) as service:
        assert service.redis is not None
        with forgetting(service.redis) if plague == "forgetful" else gone(service):
            crowd = Crowd(service, seed=3, num_open=NUM_JOBS, num_jobs=NUM_JOBS, change_minds=False)
            crowd.start()
            wait_for(lambda: len(crowd.log.told) == NUM_JOBS, what="jobs")
            crowd.stop()
            crowd.settle(seconds=SETTLE_SECONDS, keep_alive=lambda: None)
        verdict = check_history(service.engine, service.store, crowd.log)
        if plague == "gone":
            # A worker that found work goes on with what it unblocks, instead of waiting for its next look.
            wait_for(lambda: sum(looks(service)) > len(looks(service)), what="a look that ran several steps")

    assert (crowd.open, crowd.unexpected, verdict.violations) == ({}, [], [])
    assert (verdict.num_jobs, verdict.num_lost_attempts) == (NUM_JOBS, 0)


def looks(service: Service) -> list[int]:
    """How many steps each look at the database ran, of those that ran some."""
    lines = (line for worker in service.workers for line in worker.log.read_text().splitlines())
    events = (json.loads(line) for line in lines if "steps_run_by_poller" in line)
    return [event["num_steps"] for event in events]


@contextmanager
def gone(service: Service) -> Iterator[None]:
    """Nobody answers there, also not when workers begin."""
    assert service.redis is not None
    service.redis.kill()
    for worker in service.workers:
        worker.kill()
        worker.start()
    yield


@contextmanager
def forgetting(server: RedisServer) -> Iterator[None]:
    """FLUSHALL, again and again."""
    stop = threading.Event()

    def forget() -> None:
        while not stop.wait(1.0):
            server.forget_everything()

    thread = threading.Thread(target=forget)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
