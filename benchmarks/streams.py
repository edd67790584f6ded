"""`python -m benchmarks.streams --connections 1000`: clients that follow a job at once, through one process.

A service on SQLite in a temporary folder. Every client holds a connection of its own and reads the events of
the job while they are written; each carries the moment of its writing, by the same machine's clock. Exit code
1 when a client missed an event, or the service's process grew a thread for each client.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import Engine, select

from app.db.models import Project
from app.db.session import create_engine, in_transaction, transaction
from app.jobs import repository, service
from fusion.spec import FusionSpec

START_SECONDS = 60.0
_OPENED_AT_ONCE = 50
_REVISION = "0" * 40
_SPEC = {
    "api_version": "fusion/v1",
    "sources": [{"name": "source", "model": {"hub": "org/source", "revision": _REVISION}}],
    "target": {"model": {"hub": "org/target", "revision": _REVISION}},
    "corpus": {"dataset": {"hub": "org/text", "revision": _REVISION}},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A service without a worker. `engine` is on its database."""

    url: str
    key: str
    pid: int
    engine: Engine

    def status(self, name: str) -> int:
        """A number of the kernel's about the process, e.g. `VmRSS` (kB) or `Threads`."""
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@dataclass(kw_only=True, slots=True)
class Heard:
    """What the clients heard."""

    delays: list[float] = field(default_factory=list)
    num_open: int = 0
    seqs_by_client: list[list[int]] = field(default_factory=list)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    data = folder / "data"
    command = [
        sys.executable,
        "-m",
        "app.cli",
        "serve",
        "--no-worker",
        "--port",
        "0",
        "--data-dir",
        str(data),
    ]
    environment = {**os.environ, "FUSION_LOG_LEVEL": "WARNING"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (data / "server.json").is_file():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service did not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        url = json.loads((data / "server.json").read_text(encoding="utf-8"))["url"]
        key = (data / "admin.key").read_text(encoding="utf-8").strip()
        engine = create_engine(f"sqlite:///{data / 'fusion.db'}")
        yield Server(url=url, key=key, pid=process.pid, engine=engine)
        engine.dispose()
    finally:
        process.terminate()
        process.wait()


def submit(server: Server) -> str:
    """A job that nobody will run; its id."""
    with transaction(server.engine) as session:
        project_id = session.scalars(select(Project.id)).first()
        assert project_id is not None
        spec = FusionSpec.model_validate(_SPEC)
        return service.submit(session, project_id=project_id, spec=spec, created_by=None).id


async def read_stream(server: Server, job_id: str, heard: Heard) -> None:
    """Follow the job to `job.end` over a plain socket."""
    address = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = [f"GET /v1/jobs/{job_id}/events/stream HTTP/1.1", "Host: x", f"Authorization: Bearer {server.key}"]
    writer.write("\r\n".join([*head, "", ""]).encode())
    seqs: list[int] = []
    heard.seqs_by_client.append(seqs)
    is_open = False
    while line := await reader.readline():
        if not is_open and line.startswith(b"id: "):
            is_open, heard.num_open = True, heard.num_open + 1
        if line.startswith(b"event: job.end"):
            break
        if line.startswith(b'data: {"object":"event"'):
            event = json.loads(line[6:])
            seqs.append(event["seq"])
            if written_at := event["details"].get("written_at"):
                heard.delays.append(time.time() - written_at)
    writer.close()


def write_events(server: Server, job_id: str, *, num_events: int, every_seconds: float) -> None:
    for number in range(num_events):
        with transaction(server.engine) as session:
            job = repository.lock_job(session, job_id)
            details = {"written_at": time.time()}
            repository.add_event(session, job, "note", f"event {number}", details=details)
        time.sleep(every_seconds)


async def run(server: Server, job_id: str, options: argparse.Namespace, heard: Heard) -> tuple[int, int]:
    """Open the streams, write, end the job; memory (kB) and threads while all of them are open."""
    clients = []
    for number in range(options.connections):
        clients.append(asyncio.create_task(read_stream(server, job_id, heard)))
        if number % _OPENED_AT_ONCE == 0:
            await asyncio.sleep(0.1)
    while heard.num_open < options.connections:
        await asyncio.sleep(0.1)
    every_seconds = 1 / options.events_per_second
    await asyncio.to_thread(
        write_events, server, job_id, num_events=options.events, every_seconds=every_seconds
    )
    figures = server.status("VmRSS"), server.status("Threads")
    with transaction(server.engine) as session:
        project_id = repository.lock_job(session, job_id).project_id
    in_transaction(server.engine, service.request_cancel, project_id=project_id, job_id=job_id)
    await asyncio.wait_for(asyncio.gather(*clients), timeout=120)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--events-per-second", type=float, default=10)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    heard = Heard()
    with tempfile.TemporaryDirectory(prefix="fusion-streams-") as name, serving(Path(name)) as server:
        job_id = submit(server)
        idle_kb = server.status("VmRSS")
        began = time.monotonic()
        rss_kb, num_threads = asyncio.run(run(server, job_id, options, heard))
        seconds = time.monotonic() - began
    whole = list(range(1, max(heard.seqs_by_client[0]) + 1))
    num_complete = sum(seqs == whole for seqs in heard.seqs_by_client)
    cuts = statistics.quantiles(heard.delays, n=100)
    print(f"{options.connections} streams, {len(whole)} events each, in {seconds:.1f} s")
    print(f"complete and in order   {num_complete} of {options.connections}")
    print(
        f"delay                   p50 {cuts[49]:.3f} s, p95 {cuts[94]:.3f} s, worst {max(heard.delays):.3f} s"
    )
    print(f"memory of the service   {rss_kb / 1024:.0f} MiB, {idle_kb / 1024:.0f} MiB before the streams")
    print(f"threads of the service  {num_threads}")
    return 0 if num_complete == options.connections and num_threads < 100 else 1


if __name__ == "__main__":
    sys.exit(main())
