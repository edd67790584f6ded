"""`python -m benchmarks.claims URL`: claims per second while 10,000 jobs are queued.

The database at URL must be empty and is left full. Commits are as durable as the server makes them, so the
figure depends on the disk first of all: the same run also times bare commits of one row.
"""

import argparse
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier as ProcessBarrier

from sqlalchemy import Engine, insert, update

from app.db import migrate
from app.db.base import db_time, new_id
from app.db.models import Job, Project, Step, Worker
from app.db.session import create_engine, in_transaction, transaction
from app.jobs import service
from app.jobs.claims import Resource

_CHUNK = 1000
_CPU: tuple[Resource, ...] = ("cpu",)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimRate:
    num_workers: int
    claims_per_second: float
    cpu_ms: float
    """Of the claiming process, per claim: with SQLite all of the work, and no matter who else is busy."""
    median_ms: float
    worst_ms: float


def flood(engine: Engine, *, num_jobs: int, num_steps: int = 1, name: str = "flood") -> str:
    """A project with `num_jobs` queued jobs of `num_steps` CPU steps, the first of each queued; its id."""
    with transaction(engine) as session:
        project = Project(name=name)
        session.add(project)
        session.flush()
        for first in range(0, num_jobs, _CHUNK):
            jobs = [_job(project.id) for _ in range(min(_CHUNK, num_jobs - first))]
            session.execute(insert(Job), jobs)
            session.execute(
                insert(Step), [_step(job, position) for job in jobs for position in range(num_steps)]
            )
        of_flood = (Step.project_id == project.id, Step.position == 0)
        session.execute(update(Step).where(*of_flood).values(status="queued", ready_at=db_time()))
        return project.id


def measure(url: str, *, num_workers: int, num_claims: int) -> ClaimRate:
    """Let processes claim steps as fast as they can."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(num_workers)
    with context.Pool(num_workers, initializer=_prepare, initargs=(url, barrier)) as pool:
        per_worker = [num_claims // num_workers] * num_workers
        results = pool.map(_claim_many, per_worker, chunksize=1)
    began, ended = min(result[0] for result in results), max(result[1] for result in results)
    times_ms = sorted(ms for result in results for ms in result[2])
    return ClaimRate(
        num_workers=num_workers,
        claims_per_second=len(times_ms) / (ended - began),
        cpu_ms=1000 * sum(result[3] for result in results) / len(times_ms),
        median_ms=times_ms[len(times_ms) // 2],
        worst_ms=times_ms[-1],
    )


def commits_per_second(engine: Engine, *, num_commits: int = 100) -> float:
    """Transactions that insert one row and do nothing else."""
    began = time.monotonic()
    for _ in range(num_commits):
        with transaction(engine) as session:
            session.add(Worker(id=new_id("probe"), resources=[]))
    return num_commits / (time.monotonic() - began)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the database and print one line per number of workers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims", description=__doc__)
    parser.add_argument("url", help="of an empty database")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--claims", type=int, default=400, help="per number of workers")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4, 8])
    options = parser.parse_args(arguments)
    engine = create_engine(options.url)
    migrate.upgrade_engine(engine)
    flood(engine, num_jobs=options.jobs)
    print(f"{options.jobs} queued jobs; bare commits: {commits_per_second(engine):.0f}/s", flush=True)
    for num_workers in options.workers:
        rate = measure(options.url, num_workers=num_workers, num_claims=options.claims)
        print(
            f"{rate.num_workers} workers: {rate.claims_per_second:.0f} claims/s, "
            f"{rate.cpu_ms:.1f} ms of CPU each, median {rate.median_ms:.1f} ms, worst {rate.worst_ms:.0f} ms",
            flush=True,
        )


def _job(project_id: str) -> dict[str, object]:
    return {
        "id": new_id("job"),
        "project_id": project_id,
        "name": "flood",
        "spec": {"corpus": {"files": []}, "target": {"model": {}}, "sources": []},
        "spec_digest": "0" * 64,
        "status": "queued",
        "desired": "run",
    }


def _step(job: dict[str, object], position: int) -> dict[str, object]:
    return {
        "id": new_id("step"),
        "job_id": job["id"],
        "project_id": job["project_id"],
        "position": position,
        "name": f"step-{position}",
        "stage": "prepare",
        "resource": "cpu",
        "weight": 1.0,
        "status": "pending",
    }


class _Claimer:
    """What a process of the pool keeps."""

    engine: Engine
    barrier: ProcessBarrier


def _prepare(url: str, barrier: ProcessBarrier) -> None:
    _Claimer.engine = create_engine(url)
    _Claimer.barrier = barrier
    _Claimer.engine.connect().close()


def _claim_many(num_claims: int) -> tuple[float, float, list[float], float]:
    """Begin and end (of a clock that processes share), milliseconds of each claim, CPU seconds of all."""
    worker_id = new_id("bench")
    _Claimer.barrier.wait()
    began, cpu_began = time.monotonic(), time.process_time()
    times_ms = []
    for _ in range(num_claims):
        started = time.monotonic()
        step = in_transaction(
            _Claimer.engine,
            service.claim_step,
            worker_id=worker_id,
            resources=_CPU,
            lease_seconds=3600,
        )
        assert step is not None
        times_ms.append(1000 * (time.monotonic() - started))
    return began, time.monotonic(), times_ms, time.process_time() - cpu_began


if __name__ == "__main__":
    main()
