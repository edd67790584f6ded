"""A cancel wins, whether the worker of the running step lives, is frozen or is dead."""

import signal
from collections.abc import Iterator

import pytest

from tests.faults.crowd import spec_named
from tests.faults.processes import Process
from tests.faults.service import LEASE_SECONDS, Service, running_service, wait_for

ALIVE_SECONDS = 30.0
DEAD_SECONDS = LEASE_SECONDS + 15.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with running_service(
        folder,
        "postgresql",
        num_workers=1,
        sample_seconds=5.0,
        environment={"FUSION_GC_SECONDS": "86400"},
    ) as service:
        yield service


@pytest.mark.parametrize("worker_is", ["alive", "dead", "frozen"])
def test_a_cancelled_job_ends_in_time_and_nothing_of_it_runs_on(service: Service, worker_is: str) -> None:
    (worker,) = service.workers
    with service.client() as client:
        job = client.submit(spec_named(f"job-{worker_is}"))
        wait_for(lambda: bool(worker.stages()), what="a running stage")
        (stage,) = worker.stages()
        if worker_is == "dead":
            worker.kill()
        if worker_is == "frozen":
            worker.signal(signal.SIGSTOP)

        client.cancel(job.id)
        limit = ALIVE_SECONDS if worker_is == "alive" else DEAD_SECONDS
        wait_for(lambda: client.get_job(job.id).status == "cancelled", what="the cancel", seconds=limit)
        bring_back(worker)
        wait_for(lambda: not stage.is_running(), what="the end of the stage", seconds=ALIVE_SECONDS)

        ended = client.get_job(job.id)
        assert (ended.status, ended.error) == ("cancelled", None)


def bring_back(worker: Process) -> None:
    if worker.is_running:
        worker.signal(signal.SIGCONT)
    else:
        worker.start()
