"""A service on a real socket with a quick feed, and readers of its streams."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from fastapi import FastAPI
from sqlalchemy import Engine

from app.accounts.bootstrap import ensure_admin_key
from app.client.event_stream import ServerEvent, read_events
from app.following.feed import Feed
from app.main import create_app
from app.settings import Settings
from tests.support.serving import serving


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """Where it listens, and its admin's headers."""

    url: str
    headers: dict[str, str]
    app: FastAPI
    engine: Engine

    @property
    def feed(self) -> Feed:
        feed: Feed = self.app.state.feed
        return feed

    @property
    def project_id(self) -> str:
        answer = httpx2.get(f"{self.url}/v1/me", headers=self.headers)
        return str(answer.json()["project"]["id"])

    @contextmanager
    def stream(
        self,
        job_id: str,
        *,
        last_event_id: int | None = None,
        key: dict[str, str] | None = None,
        **params: Any,
    ) -> Iterator[httpx2.Response]:
        """The answer of a stream, of which nothing is read yet."""
        headers = {**(key or self.headers)}
        if last_event_id is not None:
            headers["Last-Event-ID"] = str(last_event_id)
        url = f"{self.url}/v1/jobs/{job_id}/events/stream"
        with httpx2.stream("GET", url, headers=headers, params=params, timeout=30) as answer:
            yield answer

    def follow(self, job_id: str, **how: Any) -> list[ServerEvent]:
        """Everything until the stream ends."""
        with self.stream(job_id, **how) as answer:
            answer.raise_for_status()
            return [event for event in read_events(answer.iter_lines()) if event is not None]


@contextmanager
def quick_service(settings: Settings, engine: Engine, **changes: Any) -> Iterator[Service]:
    """`changes`: arguments of the feed, or fields of the settings."""
    of_feed = {name: changes.pop(name) for name in ("key_check_seconds", "max_followers") if name in changes}
    settings = settings.model_copy(update=changes)
    app = create_app(settings)
    app.state.feed = Feed(app.state.engine, **{"poll_seconds": 0.05, "max_followers": 1000, **of_feed})
    key = ensure_admin_key(engine, path=settings.data_dir / "admin_key", pepper=app.state.key_pepper)
    with serving(app) as url:
        yield Service(url=url, headers={"Authorization": f"Bearer {key}"}, app=app, engine=engine)


def numbered(events: list[ServerEvent]) -> list[int]:
    """Numbers of the events of the history, in the order they came."""
    return [event.data["seq"] for event in events if event.data["object"] == "event"]
