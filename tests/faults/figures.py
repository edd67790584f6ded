"""How long recovery takes, and what clients notice of an outage.

    python -m tests.faults.figures take-over | cancel | drain | broker | submissions [--num N] [--seconds S]

Each starts its own servers, on PostgreSQL, and prints one line per figure.
"""

import argparse
import random
import signal
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import func, select

from app.client import ApiError, FusionClient, UnreachableError
from app.db.models import Attempt, Job, Step
from app.db.session import read_only
from tests.faults.crowd import Crowd, spec_named
from tests.faults.history import ClientLog, check_history
from tests.faults.processes import Process
from tests.faults.service import LEASE_SECONDS, Service, running_service, wait_for
from tests.support.prepared_service import answers

PATIENCE_SECONDS = 120.0
SLOW_SAMPLES = 0.3
SUBMITTERS = 4
QUIET = {"FUSION_GC_SECONDS": "86400"}


def measure_take_over(num: int, _seconds: float) -> None:
    """kill -9 of a busy worker until another attempt begins; its machine stays down, or comes back."""
    for comes_back in (False, True):
        times = []
        # Of a job at most three steps can run at once, so that somebody is always free to take over.
        with _service(num_workers=4) as service, _crowd(service, num_open=1) as _:
            while len(times) < num:
                worker, (step_id, attempt) = _busy(service)
                worker.kill()
                if comes_back:
                    worker.start()
                times.append(
                    wait_for(
                        lambda: _attempt_of(service, step_id) > attempt,  # noqa: B023
                        what="another attempt",
                        seconds=PATIENCE_SECONDS,
                    )
                )
                service.restart_dead()
        name = "restarted at once" if comes_back else "not restarted"
        print(f"take-over, worker {name}, lease {LEASE_SECONDS} s: {_summary(times)}", flush=True)


def measure_cancel(num: int, _seconds: float) -> None:
    """From the request until the job is cancelled and no process of its stage is left."""
    times = []
    with _service(num_workers=1) as service, service.client() as client:
        for _ in range(num):
            key = uuid.uuid4().hex
            job = client.submit(spec_named(key), idempotency_key=key)
            worker, _step = _busy(service)
            started = time.monotonic()
            client.cancel(job.id)
            wait_for(lambda: client.get_job(job.id).status == "cancelled", what="the cancel")  # noqa: B023
            wait_for(lambda: not worker.stages(), what="the end of the stage")  # noqa: B023
            times.append(time.monotonic() - started)
    print(f"cancel of a running step: {_summary(times)}", flush=True)


def measure_drain(num: int, _seconds: float) -> None:
    """SIGTERM to busy workers: no budget is spent, nothing is lost."""
    with _service(num_workers=2) as service, _crowd(service, num_open=3) as crowd:
        for _ in range(num):
            worker, _step = _busy(service)
            worker.signal(signal.SIGTERM)
            wait_for(lambda: not worker.is_running, what="the drain")  # noqa: B023
            service.restart_dead()
        crowd.stop()
        crowd.settle(seconds=PATIENCE_SECONDS, keep_alive=service.restart_dead)
        with read_only(service.engine) as session:
            spent = session.scalar(select(func.sum(Step.num_errors + Step.num_losses)))
            released = session.scalar(select(func.count()).where(Attempt.outcome == "released"))
            ended = [row.outcome for row in session.execute(select(Attempt.outcome).distinct())]
        verdict = check_history(service.engine, service.store, crowd.log)
    print(
        f"drain: {num} drains of busy workers, {released} steps handed back, {spent} of any budget spent, "
        f"outcomes {sorted(ended)}, violations {len(verdict.violations)}",
        flush=True,
    )


def measure_broker(_num: int, seconds: float) -> None:
    """POST /v1/jobs while Redis is frozen, against the same before."""
    with _service(num_workers=0, num_celery_workers=1) as service, service.client() as client:
        assert service.redis is not None
        before = _submit_for(client, seconds=seconds / 3)
        service.redis.freeze()
        during = _submit_for(client, seconds=seconds)
        service.redis.thaw()
    print(f"submissions before:                     {_summary(before)}")
    print(f"submissions, Redis frozen for {seconds:.0f} s: {_summary(during)}", flush=True)


def measure_submissions(num: int, seconds: float) -> None:
    """Submissions under kill -9 of the API and of PostgreSQL: what was acknowledged is there, and once."""
    log, lock, stop = ClientLog(), threading.Lock(), threading.Event()
    with _service(num_workers=0) as service:

        def submit_many() -> None:
            with service.client() as client:
                while not stop.is_set():
                    _submit_patiently(client, log, lock, stop)

        submitters = [threading.Thread(target=submit_many) for _ in range(SUBMITTERS)]
        for submitter in submitters:
            submitter.start()
        kills = _kill_until(service, lambda: len(log.told) >= num, seconds=seconds)
        stop.set()
        for submitter in submitters:
            submitter.join()
        with read_only(service.engine) as session:
            stored = set(session.scalars(select(Job.id)))
            names = list(session.scalars(select(Job.name)))
    told = {job_id for ids in log.told.values() for job_id in ids}
    print(
        f"submissions: {len(log.sent)} keys in {log.num_requests} requests, {len(log.told)} acknowledged, "
        f"{kills} kills; lost {len(told - stored)}, double {len(names) - len(set(names))}, "
        f"keys with two answers {sum(len(ids) > 1 for ids in log.told.values())}, "
        f"refused {dict(log.num_refused)}",
        flush=True,
    )


MEASURES: dict[str, tuple[Callable[[int, float], None], int, float]] = {
    "take-over": (measure_take_over, 30, 0.0),
    "cancel": (measure_cancel, 30, 0.0),
    "drain": (measure_drain, 50, 0.0),
    "broker": (measure_broker, 0, 60.0),
    "submissions": (measure_submissions, 10_000, 1200.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.figures", description=__doc__)
    parser.add_argument("what", choices=MEASURES, nargs="+")
    parser.add_argument("--num", type=int)
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args()
    for what in options.what:
        measure, num, seconds = MEASURES[what]
        measure(options.num or num, options.seconds or seconds)


@contextmanager
def _service(*, num_workers: int, num_celery_workers: int = 0) -> Iterator[Service]:
    with (
        tempfile.TemporaryDirectory(prefix="fusion-figures-") as folder,
        running_service(
            Path(folder) / "service",
            "postgresql",
            num_workers=num_workers,
            num_celery_workers=num_celery_workers,
            sample_seconds=SLOW_SAMPLES,
            environment=QUIET,
        ) as service,
    ):
        yield service


@contextmanager
def _crowd(service: Service, *, num_open: int) -> Iterator[Crowd]:
    crowd = Crowd(service, seed=1, num_open=num_open, change_minds=False)
    crowd.start()
    yield crowd
    crowd.stop()


def _busy(service: Service) -> tuple[Process, tuple[str, int]]:
    """A worker that runs a stage, and the attempt it runs."""
    found: list[tuple[Process, tuple[str, int]]] = []

    def is_found() -> bool:
        for worker in service.workers:
            for stage in worker.stages():
                # .../workspaces/STEP/ATTEMPT/request.json
                (request,) = [word for word in stage.cmdline() if word.endswith("request.json")]
                found.append((worker, (Path(request).parts[-3], int(Path(request).parts[-2]))))
        return bool(found)

    wait_for(is_found, what="a running stage", seconds=PATIENCE_SECONDS)
    return found[0]


def _attempt_of(service: Service, step_id: str) -> int:
    with read_only(service.engine) as session:
        return session.scalars(select(Step.attempt).where(Step.id == step_id)).one()


def _submit_for(client: FusionClient, *, seconds: float) -> list[float]:
    times = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        key = uuid.uuid4().hex
        started = time.monotonic()
        client.submit(spec_named(key), idempotency_key=key)
        times.append(time.monotonic() - started)
        time.sleep(0.1)
    return times


def _submit_patiently(
    client: FusionClient, log: ClientLog, lock: threading.Lock, stop: threading.Event
) -> None:
    key = f"job-{uuid.uuid4().hex}"
    with lock:
        log.sent.add(key)
    while not stop.is_set():
        with lock:
            log.num_requests += 1
        try:
            job = client.submit(spec_named(key), idempotency_key=key)
        except (UnreachableError, ApiError) as error:
            with lock:
                log.num_refused[str(getattr(error, "status", "unreachable"))] += 1
            stop.wait(0.1)
            continue
        with lock:
            log.told[key].add(job.id)
        return


def _kill_until(service: Service, is_enough: Callable[[], bool], *, seconds: float) -> int:
    """kill -9 of the API, now and then of PostgreSQL, each time that it is up again; how often."""
    rng = random.Random(1)
    assert service.postgres is not None
    kills = 0
    end = time.monotonic() + seconds
    while not is_enough() and time.monotonic() < end:
        wait_for(lambda: answers(service.url), what="the API", seconds=PATIENCE_SECONDS)
        time.sleep(rng.uniform(0.5, 4.0))
        kills += 1
        if rng.random() < 0.2:
            service.postgres.kill()
            service.postgres.start()
        else:
            service.processes["api"].kill()
        service.restart_dead()
    return kills


def _summary(times: Sequence[float]) -> str:
    ordered = sorted(times)
    p95, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.95, 0.99))
    return (
        f"n {len(ordered)}, p50 {statistics.median(ordered):.3f} s, p95 {p95:.3f} s, "
        f"p99 {p99:.3f} s, max {ordered[-1]:.3f} s"
    )


if __name__ == "__main__":
    main()
