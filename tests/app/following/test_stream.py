"""Streams on real sockets: nothing is lost, nothing is held, and every one of them ends."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
from sqlalchemy import Engine

from app.client.event_stream import read_events
from app.db.session import in_transaction
from app.following.reading import POINTS_AT_ONCE
from app.jobs import service
from app.settings import Settings
from tests.app.following.streams import Service, numbered, quick_service
from tests.app.jobs import builders as given


@pytest.fixture
def quick(settings: Settings, engine: Engine) -> Iterator[Service]:
    with quick_service(settings, engine, key_check_seconds=0.05) as running:
        yield running


def table(engine: Engine, job_id: str) -> list[int]:
    return [event.seq for event in given.events(engine, job_id)]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_a_finished_job_is_told_whole_and_then_the_client_is_sent_away(
    quick: Service, engine: Engine
) -> None:
    job = given.submit(engine, quick.project_id)
    given.run_to_end(engine)

    events = quick.follow(job.id)
    last = events[-1]
    rest = quick.follow(job.id, last_event_id=3)
    # As a library of browsers comes back: with the address that it began with.
    rest_of_browser = quick.follow(job.id, after=1, lastEventId=3)
    with quick.stream(job.id, last_event_id=int(last.id or 0)) as again:
        pass

    assert numbered(events) == table(engine, job.id)
    assert (last.type, last.data["status"], last.id) == ("job.end", "succeeded", str(len(events) - 1))
    assert numbered(rest) == numbered(rest_of_browser) == table(engine, job.id)[3:]
    assert again.status_code == 204


def test_a_follower_sees_a_job_from_its_beginning_to_its_end(quick: Service, engine: Engine) -> None:
    job = given.submit(engine, quick.project_id)
    seen: list[list[int]] = []

    def read(after: int) -> None:
        seen.append(numbered(quick.follow(job.id, after=after)))

    readers = [threading.Thread(target=read, args=(after,)) for after in (0, 0, 1)]
    for reader in readers:
        reader.start()
    wait_for(lambda: quick.feed.num_followers == len(readers))
    given.run_to_end(engine)
    for reader in readers:
        reader.join(timeout=30)

    whole = table(engine, job.id)
    assert sorted(seen) == sorted([whole, whole, whole[1:]])
    wait_for(lambda: quick.feed.num_followers == 0)


def test_curves_and_progress_come_along_and_nothing_of_a_curve_is_lost(
    quick: Service, engine: Engine
) -> None:
    job = given.submit(engine, quick.project_id)
    step = given.claim(engine)
    fence = {"step_id": step.step_id, "attempt": step.attempt}
    in_transaction(engine, service.record_metrics, **fence, points=[(1, {"loss": 3.0})])
    in_transaction(engine, service.record_note, **fence, message="seen", details={})
    seen = table(engine, job.id)[-1]
    in_transaction(
        engine, service.record_metrics, **fence, points=[(2, {"loss": 2.0}), (3, {"loss": math.nan})]
    )
    in_transaction(engine, service.record_progress, **fence, done=1, total=4, unit="windows", tokens=7)

    with quick.stream(job.id, last_event_id=seen) as answer:
        found: dict[str, dict[str, Any]] = {}
        for event in read_events(answer.iter_lines()):
            if event is not None:
                found[event.type] = event.data
            if {"job.metrics", "job.progress"} <= set(found):
                break
    later = quick.follow(job.id, metrics_since=1, types="job.metrics", follow=False)

    assert [point["step"] for point in found["job.metrics"]["points"]] == [2, 3]
    assert found["job.metrics"]["points"][1]["values"] == {"loss": None}
    assert found["job.progress"]["progress"]["done"] == 1
    assert [event.data["next_since"] for event in later] == [3]


def test_points_come_before_the_events_that_follow_them(quick: Service, engine: Engine) -> None:
    """Who is cut off and comes back with that event's number is told later points only."""
    job = given.submit(engine, quick.project_id)
    step = given.claim(engine)
    fence = {"step_id": step.step_id, "attempt": step.attempt}
    seen = table(engine, job.id)[-1]
    points = [(number, {"loss": 1.0}) for number in range(1, POINTS_AT_ONCE + 5)]
    in_transaction(engine, service.record_metrics, **fence, points=points)
    in_transaction(engine, service.record_note, **fence, message="trained", details={})

    told: list[int] = []
    with quick.stream(job.id, last_event_id=seen) as answer:
        for event in read_events(answer.iter_lines()):
            if event is not None and event.id is not None:
                break
            if event is not None and event.type == "job.metrics":
                told += [point["step"] for point in event.data["points"]]

    assert told == [number for number, _ in points]


def test_only_wanted_types_come_and_the_end_always_does(quick: Service, engine: Engine) -> None:
    job = given.submit(engine, quick.project_id)
    given.run_to_end(engine)

    events = quick.follow(job.id, types="step_succ*,job_submitted")
    refused = httpx2.get(f"{quick.url}/v1/jobs/{job.id}/events?types=step started", headers=quick.headers)

    assert {event.type for event in events} == {"job_submitted", "step_succeeded", "job.end"}
    assert (refused.status_code, refused.json()["code"]) == (422, "type_invalid")


def test_the_first_byte_comes_at_once_and_heartbeats_follow(settings: Settings, engine: Engine) -> None:
    with quick_service(settings, engine, stream_heartbeat_seconds=0.05) as quick:
        job = given.submit(engine, quick.project_id)
        with quick.stream(job.id, types="nothing") as answer:
            lines = [line for line, _ in zip(answer.iter_lines(), range(9), strict=False)]

    assert lines[:3] == [": fusion", "retry: 3000", ""]
    assert lines.count(": still here") >= 2
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")


def test_a_number_that_was_never_given_is_refused(quick: Service, engine: Engine) -> None:
    job = given.submit(engine, quick.project_id)

    with quick.stream(job.id, last_event_id=99) as answer:
        answer.read()

    assert (answer.status_code, answer.json()["code"]) == (422, "cursor_ahead")


def test_a_stream_ends_when_its_key_is_revoked(quick: Service, engine: Engine) -> None:
    job = given.submit(engine, quick.project_id)
    made = httpx2.post(
        f"{quick.url}/v1/api_keys", headers=quick.headers, json={"name": "short", "scopes": ["jobs:read"]}
    ).json()
    key = {"Authorization": f"Bearer {made['secret']}"}

    with quick.stream(job.id, key=key) as answer:
        lines = answer.iter_lines()
        assert next(lines)
        httpx2.delete(f"{quick.url}/v1/api_keys/{made['id']}", headers=quick.headers).raise_for_status()
        rest = list(lines)
    with quick.stream(job.id, key=key, last_event_id=1) as again:
        again.read()

    assert "event: job.end" not in rest
    assert (again.status_code, again.json()["code"]) == (401, "api_key_revoked")


def test_streams_hold_neither_threads_nor_connections_and_go_with_their_clients(
    quick: Service, engine: Engine
) -> None:
    job = given.submit(engine, quick.project_id)
    before, num_streams = threading.active_count(), 45
    pool = quick.app.state.engine.pool
    url = f"{quick.url}/v1/jobs/{job.id}/events/stream"
    limits = httpx2.Limits(max_connections=None)
    with httpx2.Client(headers=quick.headers, limits=limits, timeout=30) as client, ExitStack() as streams:
        lines = [streams.enter_context(client.stream("GET", url)).iter_lines() for _ in range(num_streams)]
        assert {next(of_stream) for of_stream in lines} == {": fusion"}
        wait_for(lambda: quick.feed.num_followers == num_streams)

        # More than the pool could give, and requests are still answered; at most the poller has one.
        assert client.get(f"{quick.url}/v1/jobs/{job.id}").is_success
        assert min(pool.checkedout() for _ in range(100)) <= 1
        assert threading.active_count() - before < num_streams
    wait_for(lambda: quick.feed.num_followers == 0)


def test_more_followers_than_may_are_told_so(settings: Settings, engine: Engine) -> None:
    with quick_service(settings, engine, max_followers=1) as quick:
        job = given.submit(engine, quick.project_id)
        with quick.stream(job.id) as answer:
            lines = answer.iter_lines()
            assert next(lines)
            wait_for(lambda: quick.feed.num_followers == 1)
            refused = httpx2.get(f"{quick.url}/v1/jobs/{job.id}/events/stream", headers=quick.headers)

    assert (refused.status_code, refused.json()["code"]) == (503, "too_many_followers")
    assert refused.headers["retry-after"]
