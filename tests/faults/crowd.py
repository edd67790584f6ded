"""Clients that submit jobs, change their minds, and keep what they were told."""

import random
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from app.client import ApiError, FusionClient, Job, UnreachableError
from tests.app.jobs.builders import REVISION, spec_data
from tests.faults.history import FINISHED, ClientLog
from tests.faults.service import Service

SOURCES = [{"name": name, "model": {"hub": f"org/{name}", "revision": REVISION}} for name in ("mpt", "llama")]
POLL_SECONDS = 0.3
ResultT = TypeVar("ResultT")


def spec_named(name: str) -> dict[str, Any]:
    """A job of seven steps with a fan-in; its name goes into every hash."""
    return spec_data(name=name, sources=SOURCES)


class Crowd:
    """Keeps a number of jobs going until it is told to stop, then waits for the rest.

    A client is patient: it repeats under the same key what got no answer or a 503, and asks for a retry of
    a job that failed for no fault of its user's. Any other refusal is written down as unexpected.
    """

    def __init__(
        self,
        service: Service,
        *,
        seed: int,
        num_open: int,
        num_jobs: int | None = None,
        change_minds: bool = True,
    ) -> None:
        self.log = ClientLog()
        self.unexpected: list[str] = []
        self.open: dict[str, str] = {}
        self._service = service
        self._rng = random.Random(seed)
        self._num_open = num_open
        self._num_left = num_jobs
        self._change_minds = change_minds
        self._paused: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crowd", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Wait until the given number of jobs has ended."""
        self._thread.join()

    def stop(self) -> None:
        """Submit nothing more."""
        self._stop.set()
        self._thread.join()

    def settle(self, *, seconds: float, keep_alive: Callable[[], object]) -> float:
        """Wait for every job that is still open; how long it took."""
        started = time.monotonic()
        with self._service.client() as client:
            while self.open and time.monotonic() - started < seconds:
                keep_alive()
                self._look(client)
                time.sleep(POLL_SECONDS)
        return time.monotonic() - started

    def _run(self) -> None:
        with self._service.client() as client, ThreadPoolExecutor(2) as pool:
            while not self._stop.is_set() and (self._num_left != 0 or self.open):
                if len(self.open) < self._num_open and self._num_left != 0:
                    self._submit(client, pool)
                    continue
                self._look(client)
                if self._change_minds:
                    self._change_a_mind(client)
                self._stop.wait(POLL_SECONDS)

    def _submit(self, client: FusionClient, pool: ThreadPoolExecutor) -> None:
        """One job; now and then the same request twice at once, as an impatient proxy sends it."""
        key = f"job-{uuid.uuid4().hex[:12]}"
        self.log.sent.add(key)
        num_at_once = 2 if self._rng.random() < 0.2 else 1
        answers = list(pool.map(lambda _: self._send(client, key), range(num_at_once)))
        if self._num_left is not None:
            self._num_left -= 1
        for job in answers:
            if job is not None:
                self.log.told[key].add(job.id)
                self.open[job.id] = key

    def _send(self, client: FusionClient, key: str) -> Job | None:
        """Until the service says that it has the job. At the end of the run even that is given up."""
        while True:
            self.log.num_requests += 1
            job = self._ask(lambda: client.submit(spec_named(key), idempotency_key=key))
            if job is not None or self._stop.wait(0.2):
                return job

    def _look(self, client: FusionClient) -> None:
        for job_id in list(self.open):
            job = self._ask(lambda job_id=job_id: client.get_job(job_id))
            if job is None:
                return
            if job.status == "failed" and job.error is not None and job.error.retryable:
                self.log.num_retries += self._ask(lambda job_id=job_id: client.retry(job_id)) is not None
            elif job.status in FINISHED:
                del self.open[job_id]
            elif job_id in self._paused and (self._stop.is_set() or self._rng.random() < 0.2):
                self._resume(client, job_id)

    def _resume(self, client: FusionClient, job_id: str) -> None:
        if self._ask(lambda: client.resume(job_id)) is not None:
            self._paused.discard(job_id)

    def _change_a_mind(self, client: FusionClient) -> None:
        if not self.open or self._rng.random() > 0.1:
            return
        job_id = self._rng.choice(sorted(self.open))
        if self._rng.random() < 0.3:
            self.log.cancelled.add(self.open[job_id])
            self._ask(lambda: client.cancel(job_id))
        elif self._ask(lambda: client.pause(job_id)) is not None:
            self._paused.add(job_id)

    def _ask(self, request: Callable[[], ResultT]) -> ResultT | None:
        """The answer; None where the service is away, or the request came too late to make sense."""
        try:
            return request()
        except UnreachableError:
            self.log.num_refused["unreachable"] += 1
        except ApiError as error:
            self.log.num_refused[str(error.status)] += 1
            if error.status not in (409, 429, 503):
                self.unexpected.append(f"{error.status} {error.code}: {error}")
        return None
