"""Who would wait too long for a thread is told so at once; what supervises the process is answered anyway."""

import asyncio
import selectors
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


class Clockwork(asyncio.SelectorEventLoop):
    """An event loop in which time passes only when there is nothing else to do, and then in no time."""

    def __init__(self) -> None:
        self._seconds = 0.0
        selector = selectors.DefaultSelector()
        look = selector.select

        def leap(timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            self._seconds += timeout or 0.0
            return look(0)

        selector.select = leap  # type: ignore[method-assign]
        super().__init__(selector)

    def time(self) -> float:
        return self._seconds


@pytest.fixture
def loop() -> Iterator[Clockwork]:
    loop = Clockwork()
    yield loop
    loop.close()


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


def test_the_length_of_the_line_is_how_long_it_takes_to_get_through(loop: Clockwork) -> None:
    async def measure() -> list[float]:
        threads, line = CapacityLimiter(1), WaitingLine()
        watch = asyncio.create_task(line.watch(threads))
        await asyncio.sleep(1)
        seen = [line.waiting_seconds]
        async with threads:
            for _ in range(2):
                await asyncio.sleep(2)
                seen.append(line.waiting_seconds)
        await asyncio.sleep(1)
        watch.cancel()
        return [*seen, line.waiting_seconds]

    free, jammed, jammed_for_longer, after = loop.run_until_complete(measure())

    assert (free, after) == (0.0, 0.0)
    assert 1.7 < jammed < 2.01
    assert 3.7 < jammed_for_longer < 4.01


@pytest.mark.parametrize("arrivals_over_capacity", [2, 8])
def test_the_line_stays_short_however_many_come(loop: Clockwork, arrivals_over_capacity: int) -> None:
    """Once it has been too long, which takes as long to see as is allowed."""
    work_seconds, limit_seconds, num_seconds = 0.02, 3.0, 300.0

    async def crowd() -> list[tuple[float, float]]:
        threads, line, waited = CapacityLimiter(1), WaitingLine(), list[tuple[float, float]]()
        watch = asyncio.create_task(line.watch(threads))

        async def request() -> None:
            joined_at = loop.time()
            async with threads:
                waited.append((joined_at, loop.time() - joined_at))
                await asyncio.sleep(work_seconds)

        begun = []
        while loop.time() < num_seconds:
            for _ in range(arrivals_over_capacity):
                if line.waiting_seconds <= limit_seconds:
                    begun.append(asyncio.create_task(request()))
            await asyncio.sleep(work_seconds)
        await asyncio.gather(*begun)
        watch.cancel()
        return waited

    waited = loop.run_until_complete(crowd())

    longest_at_first = max(seconds for _, seconds in waited)
    longest = max(seconds for joined_at, seconds in waited if joined_at > num_seconds / 2)
    assert longest_at_first < (limit_seconds + 0.5) * arrivals_over_capacity
    assert longest < 1.5 * limit_seconds
    # All the while somebody was worked for.
    assert len(waited) * work_seconds > 0.99 * num_seconds
