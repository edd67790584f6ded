"""The service as real processes: embedded on SQLite, or PostgreSQL, Redis, uvicorn and Celery workers."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.client import FusionClient
from app.settings import Settings
from tests.support.prepared_service import answers, prepare_service
from tests.support.services import as_role, free_port, make_role

START_SECONDS = 60.0
STOP_SECONDS = 40.0
NUM_CELERY_WORKERS = 2
WORKER_ROLE = "fusion_worker"
# A test must not wait a minute to see a worker missed; still, a worker on a busy machine keeps its lease.
QUICK = {
    "FUSION_LEASE_SECONDS": "8",
    "FUSION_HEARTBEAT_SECONDS": "1",
    "FUSION_RECONCILE_SECONDS": "1",
    "FUSION_POLL_SECONDS": "0.5",
    "FUSION_LOG_LEVEL": "WARNING",
}


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A running service, and the process whose descendants are its workers and stages."""

    client: FusionClient
    roots: list[psutil.Process]

    def stages(self) -> list[psutil.Process]:
        """Processes that run a stage now."""
        return [process for process in self._descendants() if "--events-fd" in _command(process)]

    def worker_of(self, stage: psutil.Process) -> psutil.Process:
        parent = stage.parent()
        assert parent is not None
        return parent

    def _descendants(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for root in self.roots:
            with suppress(psutil.NoSuchProcess):
                found += root.children(recursive=True)
        return found


@contextmanager
def embedded_stack(folder: Path, *, allowed_root: Path) -> Iterator[Stack]:
    """`fusion serve` on a free port."""
    data = folder / "data"
    command = [sys.executable, "-m", "app.cli", "serve", "--data-dir", str(data), "--port", "0"]
    command += ["--allowed-root", str(allowed_root)]
    with _process(command, folder / "serve.log", environment=QUICK) as server:
        _wait_for((data / "server.json").is_file, process=server, log=folder / "serve.log")
        url = json.loads((data / "server.json").read_text())["url"]
        with FusionClient(url, (data / "admin.key").read_text().strip()) as client:
            yield Stack(client=client, roots=[psutil.Process(server.pid)])


@contextmanager
def production_stack(
    folder: Path, *, allowed_root: Path, database_url: str, broker_url: str
) -> Iterator[Stack]:
    """One uvicorn process and two Celery workers, which have a role of their own in the database."""
    environment = {
        **QUICK,
        "FUSION_DATA_DIR": str(folder / "data"),
        "FUSION_DATABASE_URL": database_url,
        "FUSION_BROKER_URL": broker_url,
        "FUSION_ALLOWED_ROOTS": str(allowed_root),
    }
    make_role(database_url, WORKER_ROLE)
    engine, key = prepare_service(
        Settings(data_dir=folder / "data", database_url=database_url, worker_role=WORKER_ROLE)
    )
    engine.dispose()
    of_worker = {
        **environment,
        "FUSION_DATABASE_URL": as_role(database_url, WORKER_ROLE),
        "FUSION_HOUSEKEEPING": "false",
    }
    port = free_port()
    uvicorn = [sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", "--port", str(port)]
    celery = [sys.executable, "-m", "celery", "-A", "workers.celery_app", "worker", "-Q", "cpu,gpu"]
    with ExitStack() as stack:
        api = stack.enter_context(_process(uvicorn, folder / "api.log", environment=environment))
        workers = [
            stack.enter_context(
                _process(
                    [*celery, "-n", f"w{index}@%h"],
                    folder / f"worker{index}.log",
                    environment=of_worker,
                    may_die=True,
                )
            )
            for index in range(NUM_CELERY_WORKERS)
        ]
        url = f"http://127.0.0.1:{port}"
        _wait_for(lambda: answers(url), process=api, log=folder / "api.log")
        client = stack.enter_context(FusionClient(url, key))
        yield Stack(client=client, roots=[psutil.Process(worker.pid) for worker in workers])


@contextmanager
def _process(
    command: list[str], log: Path, *, environment: dict[str, str], may_die: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own session that is gone, with all its descendants, when the block ends.

    It must live until then, unless it `may_die`: a test that kills a worker is about that.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        ended_by_itself = process.poll()
        family = _family(process.pid)
        process.terminate()
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        left = [
            member for member in family if member.is_running() and member.status() != psutil.STATUS_ZOMBIE
        ]
        for member in left:
            member.kill()
        if not may_die:
            assert ended_by_itself is None, (
                f"{command[2:5]} ended with {ended_by_itself}: {log.read_text()[-2000:]}"
            )
        assert not left, f"{command[2:5]} left {left}; its log ends with:\n{log.read_text()[-2000:]}"


def _family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _wait_for(condition: Callable[[], bool], *, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        ended = process.poll() is not None
        assert not ended, f"ended at once; its log ends with:\n{log.read_text()[-2000:]}"
        assert time.monotonic() < deadline, f"did not start; its log ends with:\n{log.read_text()[-2000:]}"
        time.sleep(0.1)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []
