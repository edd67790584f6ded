"""Who would wait too long for a thread is told so at once; what supervises the process is answered anyway."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx2
import pytest
from anyio import CapacityLimiter
from sqlalchemy import Engine

from app.accounts.bootstrap import ensure_admin_key
from app.main import create_app
from app.overload import WaitingLine
from app.settings import Settings
from tests.support.serving import serving

NUM_THREADS = 2
PATIENCE_SECONDS = 30.0


@dataclass
class Jam:
    """A service all of whose threads can be kept busy."""

    client: httpx2.Client
    pool: ThreadPoolExecutor
    is_over: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> list[Future[httpx2.Response]]:
        return [self.pool.submit(self.client.get, "/dawdle") for _ in range(NUM_THREADS)]

    def statuses_until(self, status: int) -> list[int]:
        """Of requests sent one after another until one is answered so."""
        seen: list[int] = []
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not seen or seen[-1] != status:
            assert time.monotonic() < deadline, seen
            seen.append(self.client.get("/ping").status_code)
            time.sleep(0.02)
        return seen


@pytest.fixture
def jam(settings: Settings, engine: Engine) -> Iterator[Jam]:
    app = create_app(
        settings.model_copy(
            update={"request_threads": NUM_THREADS, "max_wait_seconds": 0.2, "housekeeping": False}
        )
    )
    key = ensure_admin_key(engine, path=settings.data_dir / "admin_key", pepper=app.state.key_pepper)
    is_over = threading.Event()

    @app.get("/dawdle")
    def dawdle() -> None:
        assert is_over.wait(PATIENCE_SECONDS)

    @app.get("/ping")
    async def ping() -> None:
        """Takes no thread."""

    with (
        serving(app) as url,
        ThreadPoolExecutor() as pool,
        httpx2.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE_SECONDS
        ) as client,
    ):
        try:
            yield Jam(client, pool, is_over)
        finally:
            is_over.set()


def test_new_requests_are_refused_while_others_wait_too_long(jam: Jam) -> None:
    begun = jam.begin()
    jam.statuses_until(503)

    refusal = jam.client.get("/v1/jobs")
    alive = jam.client.get("/livez")
    jam.is_over.set()
    jam.statuses_until(200)

    assert (refusal.status_code, refusal.json()["code"]) == (503, "overloaded")
    assert 1 <= int(refusal.headers["Retry-After"]) <= 5
    assert refusal.headers["X-Request-Id"] == refusal.json()["request_id"]
    assert alive.status_code == 200
    assert [one.result().status_code for one in begun] == [200] * NUM_THREADS
    assert jam.client.get("/v1/jobs").status_code == 200


def test_the_length_of_the_line_is_how_long_it_takes_to_get_through() -> None:
    async def measure() -> tuple[float, float, float]:
        threads, line = CapacityLimiter(1), WaitingLine()
        watch = asyncio.create_task(line.watch(threads))
        await asyncio.sleep(0.05)
        free = line.waiting_seconds
        async with threads:
            await asyncio.sleep(0.8)
            jammed = line.waiting_seconds
        await asyncio.sleep(0.05)
        after = line.waiting_seconds
        watch.cancel()
        return free, jammed, after

    free, jammed, after = asyncio.run(measure())

    assert (free, after) == (0.0, 0.0)
    assert jammed > 0.3


@pytest.mark.parametrize("arrivals_over_capacity", [2, 8])
def test_the_line_stays_short_however_many_come(arrivals_over_capacity: int) -> None:
    """Whoever is let in waits about as long as is allowed, not longer and longer."""
    work_seconds, limit_seconds, num_seconds = 0.02, 0.5, 4.0

    async def crowd() -> list[float]:
        threads, line, waited = CapacityLimiter(1), WaitingLine(), list[float]()
        watch = asyncio.create_task(line.watch(threads))

        async def request() -> None:
            joined_at = time.monotonic()
            async with threads:
                waited.append(time.monotonic() - joined_at)
                await asyncio.sleep(work_seconds)

        begun = []
        until = time.monotonic() + num_seconds
        while time.monotonic() < until:
            for _ in range(arrivals_over_capacity):
                if line.waiting_seconds <= limit_seconds:
                    begun.append(asyncio.create_task(request()))
            await asyncio.sleep(work_seconds)
        await asyncio.gather(*begun)
        watch.cancel()
        return waited

    waited = asyncio.run(crowd())

    assert len(waited) > 50
    assert max(waited) < 4 * limit_seconds
