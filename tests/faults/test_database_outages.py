"""The database goes away for longer than a lease: running steps go on, and nobody's step is given away."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import select

from app.db.models import Attempt, Step
from app.db.session import read_only
from tests.faults.crowd import spec_named
from tests.faults.service import LEASE_SECONDS, Service, running_service, wait_for

SAMPLE_SECONDS = 1.2
"""A step takes longer than the outage."""
OUTAGE_SECONDS = 2.5 * LEASE_SECONDS
NUM_JOBS = 2


@pytest.mark.parametrize("way", ["killed", "swallowed"])
def test_a_step_outlives_an_outage_of_the_database(tmp_path: Path, way: str) -> None:
    with (
        running_service(
            tmp_path,
            "postgresql",
            num_workers=NUM_JOBS,
            with_proxies=True,
            sample_seconds=SAMPLE_SECONDS,
            environment={"FUSION_GC_SECONDS": "86400"},
        ) as service,
        service.client() as client,
    ):
        jobs = [client.submit(spec_named(f"job-{number}")) for number in range(NUM_JOBS)]
        wait_for(lambda: len(stages(service)) == NUM_JOBS, what="a running stage for each job")
        before = stages(service)

        with away(service, way):
            until = time.monotonic() + OUTAGE_SECONDS
            if way == "killed":
                answer = ask(service)
                assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
                assert answer.headers["retry-after"]
            time.sleep(max(0.0, until - time.monotonic()))
            assert stages(service) == before

        wait_for(lambda: num_prepared(service) == NUM_JOBS, what="the end of the steps")
        with read_only(service.engine) as session:
            attempts = list(session.execute(select(Attempt.attempt, Attempt.outcome)))
        assert {number for number, _ in attempts} == {1}
        assert {outcome for _, outcome in attempts} <= {"succeeded", "running"}
        assert ask(service).status_code == 200
        for job in jobs:
            client.cancel(job.id)


@contextmanager
def away(service: Service, way: str) -> Iterator[None]:
    """The server is dead, or every connection to it leads nowhere, while the block runs."""
    assert service.postgres is not None
    if way == "killed":
        service.postgres.kill()
        yield
        service.postgres.start()
        return
    for proxy in service.proxies.values():
        proxy.swallow()
    yield
    for proxy in service.proxies.values():
        proxy.let_pass()


def stages(service: Service) -> set[int]:
    return {stage.pid for worker in service.workers for stage in worker.stages()}


def num_prepared(service: Service) -> int:
    with read_only(service.engine) as session:
        done = select(Step.id).where(Step.name == "prepare", Step.status == "succeeded")
        return len(session.scalars(done).all())


def ask(service: Service) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {service.key}"}
    return httpx2.get(f"{service.url}/v1/jobs", headers=headers, timeout=60)
