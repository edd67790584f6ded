"""A process dies at every place where that could hurt, and each job ends as if it had not.

Each case kills one process at one named place while one job runs; then the dead are started again, as their
supervisor would, and the whole history is checked.
"""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest

from app.client import FusionClient
from tests.faults.history import ClientLog, check_history
from tests.faults.jobs import submit, wait_for_end
from tests.faults.processes import python
from tests.faults.service import Profile, Service, running_service, wait_for

PACKAGES = ("app", "workers", "fusion")
DURING_A_JOB = (
    # the worker
    "step.claimed",
    "workspace.reserved",
    "inputs.fetched",
    "child.started",
    "lease.renewed",
    "bytes.stored",
    "blob.written",
    "blob.renamed",
    "part.published",
    "checkpoint.forgotten",
    "output.recorded",
    "attempt.ending",
    "attempt.ended",
    # the stage
    "file.written",
    "file.renamed",
    "folder.written",
    "folder.replaced",
    "part.finished",
    "stage.finished",
    # the API
    "job.recorded",
    "request.committed",
    # whoever keeps house
    "rings.taken",
    "rings.rung",
)
OF_THEIR_OWN = {
    "lease.expired": "test_the_reconciler_dies_while_it_takes_a_step_from_a_dead_worker",
    "workspace.abandoned": "test_a_worker_dies_while_it_sweeps_up_after_another",
    "upload.received": "test_the_api_dies_during_an_upload",
    "file.forgotten": "test_the_api_dies_during_a_deletion",
    "garbage.deleted": "test_the_collector_dies_between_bytes_and_commit",
    "object.put": "tests/faults/test_remote_storage.py",
    "object.piece_sent": "tests/faults/test_remote_storage.py",
    "checkpoint.file_written": "tests/faults/test_training_checkpoints.py",
}


@pytest.fixture(scope="module", params=get_args(Profile))
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    # Garbage is collected when a test says so: the checker reads bytes while the service runs.
    quiet = {"FUSION_GC_SECONDS": "86400", "FUSION_GC_GRACE_SECONDS": "0"}
    folder = tmp_path_factory.mktemp(request.param)
    with running_service(folder, request.param, environment=quiet) as service:
        yield service


@pytest.fixture(scope="module")
def log() -> ClientLog:
    return ClientLog()


@pytest.fixture
def client(service: Service) -> Iterator[FusionClient]:
    with service.client() as client:
        yield client
    service.restart_dead()


@pytest.mark.parametrize("place", DURING_A_JOB)
def test_a_job_survives_a_death_at(
    place: str, service: Service, client: FusionClient, log: ClientLog
) -> None:
    service.arm(place)

    # The client repeats its request under the same key, should it be the API that dies.
    job = wait_for_end(service, client, submit_while_dying(service, client, log))

    assert service.has_fired(place)
    assert (job.status, job.error) == ("succeeded", None)
    assert check_history(service.engine, service.store, log).violations == []


def test_the_reconciler_dies_while_it_takes_a_step_from_a_dead_worker(
    service: Service, client: FusionClient, log: ClientLog
) -> None:
    job_id = submit(client, log)
    service.arm("lease.expired")
    wait_for(lambda: any(worker.stages() for worker in service.workers), what="a running stage")
    for worker in service.workers:
        worker.kill()

    job = wait_for_end(service, client, job_id)

    assert service.has_fired("lease.expired")
    assert job.status == "succeeded"
    assert check_history(service.engine, service.store, log).violations == []


def test_a_worker_dies_while_it_sweeps_up_after_another(
    service: Service, client: FusionClient, log: ClientLog
) -> None:
    job_id = submit(client, log)
    wait_for(lambda: any(worker.stages() for worker in service.workers), what="a running stage")
    service.arm("workspace.abandoned")
    for worker in service.workers:
        worker.kill()

    job = wait_for_end(service, client, job_id)

    assert service.has_fired("workspace.abandoned")
    assert job.status == "succeeded"
    wait_for(lambda: not any((service.folder / "data/workspaces").glob("step-*")), what="clean workspaces")


def test_the_api_dies_during_an_upload(service: Service, client: FusionClient, tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"text": "one"}\n' * 100)
    before = {file.id for file in client.list_files()}
    service.arm("upload.received")

    uploaded = repeat(service, lambda: client.upload_file(path))

    assert service.has_fired("upload.received")
    assert {file.id for file in client.list_files()} - before == {uploaded.id}
    collect_garbage(service)
    assert not list((service.folder / "data/uploads").iterdir())


def test_the_api_dies_during_a_deletion(service: Service, client: FusionClient, tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"text": "two"}\n' * 100)
    uploaded = repeat(service, lambda: client.upload_file(path))
    stored = num_blobs(service)
    service.arm("file.forgotten")

    repeat(service, lambda: client.delete_file(uploaded.id), missing_ok=True)

    assert service.has_fired("file.forgotten")
    assert uploaded.id not in {file.id for file in client.list_files()}
    collect_garbage(service)
    assert num_blobs(service) < stored


def test_the_collector_dies_between_bytes_and_commit(
    service: Service, client: FusionClient, log: ClientLog
) -> None:
    wait_for_end(service, client, submit(client, log))
    service.arm("garbage.deleted")

    assert collect_garbage(service, check=False) != 0
    assert service.has_fired("garbage.deleted")
    collect_garbage(service)

    assert check_history(service.engine, service.store, log).violations == []


def test_every_place_has_a_case() -> None:
    root = Path(__file__).parents[2]
    places = {
        name
        for package in PACKAGES
        for path in (root / package).rglob("*.py")
        for name in re.findall(r'failpoint\("([^"]+)"\)', path.read_text())
    }

    assert places == {*DURING_A_JOB, *OF_THEIR_OWN}


def submit_while_dying(service: Service, client: FusionClient, log: ClientLog) -> str:
    """Submit as a patient client does, while somebody starts the API again."""
    import threading

    done = threading.Event()

    def keep_alive() -> None:
        while not done.wait(0.2):
            service.restart_dead()

    keeper = threading.Thread(target=keep_alive)
    keeper.start()
    try:
        return submit(client, log)
    finally:
        done.set()
        keeper.join()


def repeat(service: Service, act: Callable[[], object], *, missing_ok: bool = False) -> object:
    raise NotImplementedError


def collect_garbage(service: Service, *, check: bool = True) -> int:
    """`fusion gc`, as a process of its own."""
    raise NotImplementedError


def num_blobs(service: Service) -> int:
    return sum(path.is_file() for path in (service.folder / "data/storage").rglob("*"))


assert subprocess
assert python
