"""Routers of the API: their endpoints work in a thread, and ask for it once.

FastAPI runs an endpoint that is no coroutine in a thread, and then asks for a thread again to check the
answer, with the endpoint's transaction still open. Where requests wait for threads, those that work would
wait for connections and locks of those that wait: nothing moves until somebody's time is over. Our answers
are instances of their models, which takes no time to check.
"""

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute


class Route(APIRoute):
    """A route that asks for a thread only to run its endpoint."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, _in_thread(endpoint), **options)


class Router(APIRouter):
    """A router of such routes."""

    def __init__(self, *, route_class: type[Route] = Route, **options: Any) -> None:
        super().__init__(route_class=route_class, **options)


def _in_thread(endpoint: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    if inspect.iscoroutinefunction(endpoint):
        return endpoint
    if inspect.isgeneratorfunction(endpoint) or inspect.isasyncgenfunction(endpoint):
        raise TypeError(f"{endpoint.__name__} is a generator; return a StreamingResponse of one")

    @functools.wraps(endpoint)
    async def run(**arguments: Any) -> Any:
        return await run_in_threadpool(endpoint, **arguments)

    return run
