"""A process dies at every place where that could hurt, and each job ends as if it had not."""

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args

import httpx2
import pytest

from app.client import FusionClient, UnreachableError
from tests.faults.crowd import Crowd
from tests.faults.history import check_history
from tests.faults.processes import Process, python
from tests.faults.service import LEASE_SECONDS, Profile, Service, running_service, wait_for

PACKAGES = ("app", "workers", "fusion")
DURING_JOBS = (
    # the API
    "job.recorded", "request.committed",
    # the worker
    "step.claimed", "workspace.reserved", "inputs.fetched", "child.started", "lease.renewed", "bytes.stored",
    "blob.written", "blob.renamed", "part.published", "checkpoint.forgotten", "output.recorded",
    "attempt.ending", "attempt.ended", "workspace.abandoned",
    # the stage, or whoever writes a manifest
    "file.written", "file.renamed", "folder.written", "folder.replaced", "part.finished", "stage.finished",
    # whoever keeps house
    "rings.taken", "rings.rung", "lease.expired",
)  # fmt: skip
ON_A_DISK = {"blob.written", "blob.renamed"}
ON_S3 = ("object.put",)
ELSEWHERE = {
    "upload.received": "test_the_api_dies_during_an_upload",
    "file.forgotten": "test_the_api_dies_during_a_deletion",
    "garbage.deleted": "test_the_collector_dies_between_bytes_and_commit",
    "object.put": "tests/faults/test_remote_storage.py",
    "object.piece_sent": "tests/faults/test_remote_storage.py",
    "webhook.sent": "tests/faults/test_webhooks.py",
    "promotion.read": "tests/faults/test_promotions.py",
    "publication.sent": "tests/faults/test_publications.py",
    "checkpoint.file_written": "tests/faults/test_training_checkpoints.py",
}
NUM_OPEN_JOBS = 3
PLACE_SECONDS = 90.0
FROZEN_SECONDS = 3 * LEASE_SECONDS
KILL_EVERY_SECONDS = 3 * LEASE_SECONDS
SETTLE_SECONDS = 120.0
SAMPLE_SECONDS = 0.06
"""A step outlives its first heartbeat, also on a fast and idle machine."""
# Garbage is collected when a test says so: the checker reads bytes while the service runs.
QUIET = {"FUSION_GC_SECONDS": "86400", "FUSION_GC_GRACE_SECONDS": "0"}
ResultT = TypeVar("ResultT")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("profile", get_args(Profile))
def test_jobs_survive_a_death_at_every_place(tmp_path: Path, profile: Profile, s3_url: str) -> None:
    """SQLite with its bytes in a folder, PostgreSQL with them on S3."""
    stored = {"storage_url": s3_url} if profile == "postgresql" else {}
    places = [*(place for place in DURING_JOBS if place not in ON_A_DISK), *ON_S3] if stored else DURING_JOBS
    with running_service(
        tmp_path, profile, environment=QUIET, sample_seconds=SAMPLE_SECONDS, **stored
    ) as service:
        crowd = Crowd(service, seed=1, num_open=NUM_OPEN_JOBS, change_minds=False)
        crowd.start()
        for place in places:
            service.arm(place)
            with on_the_way_to(place, service):
                wait_for(lambda: fires(service, place), what=place, seconds=PLACE_SECONDS)  # noqa: B023
        crowd.stop()
        crowd.settle(seconds=SETTLE_SECONDS, keep_alive=service.restart_dead)

        assert crowd.unexpected == []
        assert crowd.open == {}
        assert check_history(service.engine, service.store, crowd.log).violations == []


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with running_service(folder, "sqlite", num_workers=1, environment=QUIET) as service:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[FusionClient]:
    with service.client() as client:
        yield client


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text(f'{{"text": "{tmp_path.name}"}}\n' * 100)
    return path


def test_the_api_dies_during_an_upload(service: Service, client: FusionClient, corpus: Path) -> None:
    service.arm("upload.received")

    with kept_alive(service):
        uploaded = patiently(lambda: client.upload_file(corpus))

    assert service.has_fired("upload.received")
    assert file_ids(service) == {uploaded.id}
    collect_garbage(service)
    assert list((service.folder / "data/uploads").iterdir()) == []


def test_the_api_dies_during_a_deletion(service: Service, client: FusionClient, corpus: Path) -> None:
    uploaded = client.upload_file(corpus)
    service.arm("file.forgotten")

    with kept_alive(service):
        with pytest.raises(httpx2.TransportError):
            ask(service, "DELETE", f"/v1/files/{uploaded.id}")
        assert uploaded.id not in patiently(lambda: file_ids(service))

    assert service.has_fired("file.forgotten")
    stored = num_blobs(service)
    collect_garbage(service)
    assert num_blobs(service) < stored


def test_the_collector_dies_between_bytes_and_commit(service: Service) -> None:
    crowd = Crowd(service, seed=2, num_open=1, num_jobs=1, change_minds=False)
    crowd.start()
    crowd.join()
    service.arm("garbage.deleted")

    assert collect_garbage(service, may_die=True) != 0
    assert service.has_fired("garbage.deleted")
    collect_garbage(service)

    assert check_history(service.engine, service.store, crowd.log).violations == []


def test_every_place_has_a_case() -> None:
    root = Path(__file__).parents[2]
    places = {
        name
        for package in PACKAGES
        for path in (root / package).rglob("*.py")
        for name in re.findall(r'failpoint\("([^"]+)"\)', path.read_text())
    }

    assert places == {*DURING_JOBS, *ELSEWHERE}
    for name, where in ELSEWHERE.items():
        text = (root / where).read_text() if where.endswith(".py") else where
        assert name in text or where in Path(__file__).read_text()


def ask(service: Service, method: str, path: str) -> Any:
    answer = httpx2.request(
        method, f"{service.url}{path}", headers={"Authorization": f"Bearer {service.key}"}
    )
    answer.raise_for_status()
    return answer.json()


def file_ids(service: Service) -> set[str]:
    return {file["id"] for file in ask(service, "GET", "/v1/files")["data"]}


@contextmanager
def on_the_way_to(place: str, service: Service) -> Iterator[None]:
    """Some places are reached only when something went wrong before: it goes wrong until it is enough.

    Once may not do: a stage may have ended just before, and who is frozen in the middle of a write is not
    lost but writing.
    """
    if place not in ("lease.expired", "workspace.abandoned"):
        yield
        return
    done = threading.Event()

    def freeze_or_kill() -> None:
        while not done.wait(0.02):
            worker = next((worker for worker in service.workers if worker.stages()), None)
            if worker is None:
                continue
            if place == "workspace.abandoned":
                worker.kill()
                done.wait(KILL_EVERY_SECONDS)
                continue
            worker.signal(signal.SIGSTOP)
            done.wait(FROZEN_SECONDS)
            worker.signal(signal.SIGCONT)

    trouble = threading.Thread(target=freeze_or_kill)
    trouble.start()
    try:
        yield
    finally:
        done.set()
        trouble.join()


def fires(service: Service, place: str) -> bool:
    """Whether the place was reached; whoever died is started again."""
    service.restart_dead()
    return service.has_fired(place)


@contextmanager
def kept_alive(service: Service) -> Iterator[None]:
    """Somebody starts again what dies."""
    done = threading.Event()

    def keep() -> None:
        while not done.wait(0.1):
            service.restart_dead()

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()


def patiently(request: Callable[[], ResultT], *, seconds: float = 30.0) -> ResultT:
    """The answer, once the service is back."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return request()
        except (UnreachableError, httpx2.TransportError):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def collect_garbage(service: Service, *, may_die: bool = False) -> int:
    """`fusion gc` as a process of its own; its exit code."""
    command = python("-m", "app.cli", "gc", "--data-dir", str(service.settings.data_dir))
    process = Process(
        "gc",
        command,
        environment={**QUIET, "FAILPOINTS_DIR": str(service.failpoints)},
        log=service.folder / "gc.log",
    )
    process.start()
    code = process.wait()
    assert may_die or code == 0, process.log.read_text()
    return code


def num_blobs(service: Service) -> int:
    return sum(path.is_file() for path in (service.folder / "data/storage").rglob("*"))
