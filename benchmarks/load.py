"""`python -m benchmarks.load URL`: submissions and reads at a fixed rate while 10,000 jobs are queued.

The database at URL must be empty and is left full. Requests are sent when they are due, whether or not others
have been answered, and a time counts from the moment a request was due: a server that cannot keep up
shows it. The generator runs on the same machine and takes its share of it. Exit code 1 when a request failed.
"""

import argparse
import asyncio
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil
from sqlalchemy import Engine, select, text

from app.accounts import service as accounts
from app.accounts.scopes import ALL_SCOPES
from app.accounts.secret_files import load_pepper
from app.db import migrate
from app.db.models import Job
from app.db.session import create_engine, read_only, transaction
from app.settings import Settings
from benchmarks.claims import flood
from benchmarks.process_memory import resident_bytes_of_family

START_SECONDS = 60.0
ANSWER_SECONDS = 60.0
WARM_UP_SECONDS = 5.0
MAX_CONNECTIONS = 500
COSTED_REQUESTS = 100
_REVISION = "0" * 40
_SPEC: dict[str, Any] = {
    "api_version": "fusion/v1",
    "sources": [{"name": "source", "model": {"hub": "org/source", "revision": _REVISION}}],
    "target": {"model": {"hub": "org/target", "revision": _REVISION}},
    "corpus": {"dataset": {"hub": "org/text", "revision": _REVISION}},
}
_READS = {
    "job": ("/v1/jobs/{job_id}", 0.5),
    "list": ("/v1/jobs?status=queued&limit=20", 0.25),
    "events": ("/v1/jobs/{job_id}/events", 0.15),
    "steps": ("/v1/jobs/{job_id}/steps", 0.1),
}
"""Path of each kind of read, and its share."""


@dataclass(kw_only=True, slots=True)
class Answers:
    """Seconds from when a request was due until its success, by kind; and what was none."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A running API with queued jobs."""

    url: str
    headers: dict[str, str]
    job_ids: list[str]
    pid: int


@contextmanager
def serving(database_url: str, *, num_jobs: int, num_processes: int) -> Iterator[Target]:
    """The API in some processes, on a database that is filled first."""
    with ExitStack() as held:
        name = held.enter_context(tempfile.TemporaryDirectory(prefix="fusion-load-"))
        settings = Settings(data_dir=Path(name), database_url=database_url)
        key, job_ids = _fill(settings, num_jobs=num_jobs)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        words = ["-m", "uvicorn", "app.main:create_app", "--factory", "--no-access-log", "--port", str(port)]
        environment = {
            **os.environ,
            "FUSION_DATA_DIR": name,
            "FUSION_DATABASE_URL": database_url,
            "FUSION_LOG_LEVEL": "WARNING",
        }
        command = [sys.executable, *words, "--workers", str(num_processes)]
        log = held.enter_context((Path(name) / "api.log").open("wb"))
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(url, process)
            headers = {"Authorization": f"Bearer {key}"}
            yield Target(url=url, headers=headers, job_ids=job_ids, pid=process.pid)
        finally:
            process.terminate()
            process.wait()


async def load(target: Target, *, submissions: float, reads: float, seconds: float) -> Answers:
    """Send for so long and wait for the last answers."""
    rng, answers = random.Random(1), Answers()
    limits = httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS)
    async with httpx2.AsyncClient(
        base_url=target.url, headers=target.headers, timeout=ANSWER_SECONDS, limits=limits
    ) as client:

        async def submit(due: float) -> None:
            await _send(client, answers, "submit", "", due=due)

        async def read(due: float) -> None:
            (kind,) = rng.choices(list(_READS), [share for _, share in _READS.values()])
            await _send(client, answers, kind, rng.choice(target.job_ids), due=due)

        await asyncio.gather(_at_rate(submit, submissions, seconds), _at_rate(read, reads, seconds))
    return answers


async def cost(target: Target) -> dict[str, float]:
    """Milliseconds of CPU of the API for one request of each kind, sent one after another."""
    found = {}
    async with httpx2.AsyncClient(base_url=target.url, headers=target.headers) as client:
        for kind in ("submit", *_READS):
            answers = Answers()
            for _ in range(COSTED_REQUESTS // 5):
                await _send(client, answers, kind, target.job_ids[0], due=0.0)
            before = _cpu_seconds(target.pid)
            for number in range(COSTED_REQUESTS):
                await _send(client, answers, kind, target.job_ids[number], due=0.0)
            found[kind] = 1000 * (_cpu_seconds(target.pid) - before) / COSTED_REQUESTS
            assert not answers.failures, answers.failures
    return found


async def _send(client: httpx2.AsyncClient, answers: Answers, kind: str, job_id: str, *, due: float) -> None:
    if kind == "submit":
        # No two alike: a repetition of a submission waits for the first.
        spec = _SPEC | {"name": f"load-{random.getrandbits(64):x}"}
        await _ask(client, answers, kind, "POST", "/v1/jobs", due=due, json=spec)
    else:
        await _ask(client, answers, kind, "GET", _READS[kind][0].format(job_id=job_id), due=due)


def _cpu_seconds(pid: int) -> float:
    """Of a process and all below it that live."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(times.user + times.system for times in (process.cpu_times() for process in family))


async def _at_rate(
    send: Callable[[float], Coroutine[Any, Any, None]], per_second: float, seconds: float
) -> None:
    """Start requests one after another at a fixed rate; each is told when it was due."""
    began, tasks = time.perf_counter(), []
    for number in range(int(per_second * seconds)):
        due = began + number / per_second
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(send(due)))
    await asyncio.gather(*tasks)


async def _ask(
    client: httpx2.AsyncClient,
    answers: Answers,
    kind: str,
    method: str,
    path: str,
    *,
    due: float,
    **body: Any,
) -> None:
    try:
        answer = await client.request(method, path, **body)
    except httpx2.TransportError as error:
        answers.failures[f"{kind}: {type(error).__name__}"] += 1
        return
    if answer.is_success:
        answers.seconds[kind].append(time.perf_counter() - due)
    else:
        answers.failures[f"{kind}: {answer.status_code}"] += 1


def _fill(settings: Settings, *, num_jobs: int) -> tuple[str, list[str]]:
    """Tables, queued jobs, and a key of their project; the key and the ids."""
    engine = create_engine(settings.database_url)
    migrate.upgrade_engine(engine)
    project_id = flood(engine, num_jobs=num_jobs)
    pepper = load_pepper(settings.key_pepper_file)
    with transaction(engine) as session:
        _, key = accounts.create_key(
            session, project_id=project_id, name="load", scopes=ALL_SCOPES, pepper=pepper
        )
    with read_only(engine) as session:
        job_ids = list(session.scalars(select(Job.id)))
    _analyze(engine)
    engine.dispose()
    return key, job_ids


def _analyze(engine: Engine) -> None:
    """As autovacuum does within a minute; a table that was empty a moment ago is planned for as empty."""
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the API did not start")
        try:
            httpx2.get(f"{url}/livez", timeout=5).raise_for_status()
        except httpx2.HTTPError:
            time.sleep(0.2)
        else:
            return


def _print(answers: Answers) -> None:
    for kind in ("submit", *_READS):
        ordered = sorted(answers.seconds[kind])
        if ordered:
            p50, p95, p99 = (1000 * ordered[int(len(ordered) * share)] for share in (0.5, 0.95, 0.99))
            print(f"  {kind:8} {len(ordered):6}  p50 {p50:7.0f} ms  p95 {p95:7.0f} ms  p99 {p99:7.0f} ms")
    print(f"  failures {dict(answers.failures) or 'none'}", flush=True)


def _measure(target: Target, submissions: float, reads: float, seconds: float) -> int:
    """Load it and print what that was like; the number of failures."""
    memory, cpu = resident_bytes_of_family(target.pid) / 2**20, _cpu_seconds(target.pid)
    began = time.perf_counter()
    answers = asyncio.run(load(target, submissions=submissions, reads=reads, seconds=seconds))
    took, num_successes = time.perf_counter() - began, sum(map(len, answers.seconds.values()))
    cpu_ms = 1000 * (_cpu_seconds(target.pid) - cpu) / max(num_successes, 1)
    after = resident_bytes_of_family(target.pid) / 2**20
    print(f"{submissions:g} submissions/s, {reads:g} reads/s, {seconds:g} s")
    _print(answers)
    print(f"  successes {num_successes / took:.0f} per second until the last answer")
    print(
        f"  of the API: {cpu_ms:.0f} ms of CPU per success, {memory:.0f} MiB before, {after:.0f} after",
        flush=True,
    )
    return answers.failures.total()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("url", help="of an empty database")
    parser.add_argument("--jobs", type=int, default=10_000, help="queued before the first request")
    parser.add_argument("--processes", type=int, default=2, help="of the API")
    parser.add_argument("--submissions", type=float, default=50, help="per second")
    parser.add_argument("--reads", type=float, default=200, help="per second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument(
        "--share", type=float, nargs="+", default=[1.0], help="of the rates, one run after another"
    )
    options = parser.parse_args()
    num_failures = 0
    with serving(options.url, num_jobs=options.jobs, num_processes=options.processes) as target:
        asyncio.run(load(target, submissions=5, reads=20, seconds=WARM_UP_SECONDS))
        costs = asyncio.run(cost(target))
        print("CPU of one request:", ", ".join(f"{kind} {ms:.0f} ms" for kind, ms in costs.items()))
        for share in options.share:
            num_failures += _measure(
                target, share * options.submissions, share * options.reads, options.seconds
            )
    return 1 if num_failures else 0


if __name__ == "__main__":
    sys.exit(main())
