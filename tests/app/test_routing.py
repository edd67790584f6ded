"""A request that works holds up nobody who waits, and is held up by none."""

import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated

import httpx2
import pytest
from fastapi import Depends
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.db.dependencies import held
from app.db.session import transaction
from app.main import create_app
from app.routing import Route, Router
from app.settings import Settings
from tests.support.serving import serving

NUM_THREADS = 2
PATIENCE_SECONDS = 30.0


class Answer(BaseModel):
    ok: bool = True


@dataclass
class Scene:
    """A service with `/hold`, which is in the middle of a transaction until `may_end` is set, and `/block`,
    which has a thread until `is_over` is set."""

    url: str = ""
    is_held: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)
    is_over: threading.Event = field(default_factory=threading.Event)
    num_blocking: int = 0

    def get(self, path: str) -> int:
        return httpx2.get(f"{self.url}{path}", timeout=PATIENCE_SECONDS).status_code

    def wait_for_blocking(self, num: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.num_blocking < num:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        # From there it is one step to the line.
        time.sleep(0.2)


@pytest.fixture
def scene(settings: Settings, engine: Engine) -> Iterator[Scene]:
    app = create_app(settings.model_copy(update={"request_threads": NUM_THREADS, "housekeeping": False}))
    scene, router = Scene(), Router()

    async def writing() -> AsyncIterator[Session]:
        async with held(transaction(app.state.engine)) as session:
            yield session

    async def count() -> None:
        scene.num_blocking += 1

    @router.get("/hold")
    def hold(session: Annotated[Session, Depends(writing, scope="function")]) -> Answer:
        session.execute(text("SELECT 1"))
        scene.is_held.set()
        assert scene.may_end.wait(PATIENCE_SECONDS)
        return Answer()

    @router.get("/block", dependencies=[Depends(count)])
    def block() -> Answer:
        assert scene.is_over.wait(PATIENCE_SECONDS)
        return Answer()

    app.include_router(router)
    with serving(app) as scene.url:
        try:
            yield scene
        finally:
            scene.may_end.set()
            scene.is_over.set()


def test_no_route_has_its_answer_checked_in_a_thread(settings: Settings) -> None:
    app = create_app(settings)
    routes = [context.original_route for context in iter_route_contexts(app.routes)]
    app.state.engine.dispose()

    others = [route.path for route in routes if isinstance(route, APIRoute) and not isinstance(route, Route)]

    assert len(routes) > 100
    assert others == []


def test_an_endpoint_that_streams_says_so() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="numbers is a generator; return a StreamingResponse"):
        Router().get("/numbers")(numbers)


def test_a_transaction_ends_although_every_thread_is_taken_meanwhile(scene: Scene) -> None:
    with ThreadPoolExecutor() as pool:
        holding = pool.submit(scene.get, "/hold")
        assert scene.is_held.wait(PATIENCE_SECONDS)
        # One of them takes the other thread; the rest wait for that of the transaction.
        blocking = [pool.submit(scene.get, "/block") for _ in range(NUM_THREADS)]
        scene.wait_for_blocking(NUM_THREADS)

        scene.may_end.set()
        status = holding.result(timeout=PATIENCE_SECONDS / 3)
        still_blocking = [not one.done() for one in blocking]
        scene.is_over.set()

    assert status == 200
    assert still_blocking == [True] * NUM_THREADS
    assert [one.result() for one in blocking] == [200] * NUM_THREADS
