"""The client retries what may be repeated, reads pages, and turns refusals into typed errors."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from app.client import (
    ApiError,
    AuthenticationError,
    ConflictError,
    FusionClient,
    InvalidRequestError,
    NotFoundError,
    ServerError,
    UnreachableError,
)

JOB = {"id": "job-1", "object": "job", "name": "tiny", "status": "queued", "created_at": 1, "error": None}
Answer = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


def client_that(answer: Answer) -> FusionClient:
    return FusionClient("http://service", "key", transport=httpx2.MockTransport(answer))


def page(items: list[dict[str, Any]], *, has_more: bool = False) -> httpx2.Response:
    last = items[-1]["id"] if items else None
    return httpx2.Response(200, json={"object": "list", "data": items, "last_id": last, "has_more": has_more})


def test_the_key_travels_as_a_bearer_token() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.headers["authorization"] == "Bearer key"
        return httpx2.Response(200, json=JOB)

    assert client_that(answer).get_job("job-1").name == "tiny"


def test_submit_is_repeated_under_one_idempotency_key() -> None:
    keys = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) < 3:
            raise httpx2.ReadError("cut")
        return httpx2.Response(201, json=JOB)

    assert client_that(answer).submit({"api_version": "fusion/v1"}).id == "job-1"
    assert len(keys) == 3
    assert len(set(keys)) == 1


@pytest.mark.parametrize("action", ["pause", "resume", "cancel"])
def test_an_action_that_asks_for_a_state_is_repeated(action: str) -> None:
    paths = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        paths.append(request.url.path)
        if len(paths) < 3:
            raise httpx2.ReadError("cut")
        return httpx2.Response(202, json=JOB)

    assert getattr(client_that(answer), action)("job-1").id == "job-1"
    assert paths == [f"/v1/jobs/job-1/{action}"] * 3


def test_a_clone_is_repeated_under_one_idempotency_key() -> None:
    seen = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append((request.headers["idempotency-key"], request.url.params.get("priority"), request.content))
        if len(seen) < 2:
            raise httpx2.ReadError("cut")
        return httpx2.Response(201, json={**JOB, "id": "job-2", "cloned_from_id": "job-1", "priority": 5})

    job = client_that(answer).clone("job-1", {"name": "other"}, priority=5)

    assert (job.id, job.cloned_from_id, job.priority) == ("job-2", "job-1", 5)
    assert seen[0] == seen[1]
    assert seen[0][1:] == ("5", b'{"name":"other"}')


def test_a_service_that_is_not_there_is_named_with_a_way_out() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    with pytest.raises(UnreachableError, match="http://service") as caught:
        client_that(answer).get_job("job-1")
    assert caught.value.hint is not None


def test_an_action_that_changes_things_is_not_repeated() -> None:
    num_calls = 0

    def answer(request: httpx2.Request) -> httpx2.Response:
        nonlocal num_calls
        num_calls += 1
        raise httpx2.ReadError("cut")

    with pytest.raises(UnreachableError):
        client_that(answer).retry("job-1")
    assert num_calls == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, NotFoundError),
        (409, ConflictError),
        (422, InvalidRequestError),
        (500, ServerError),
        (418, ApiError),
    ],
)
def test_a_problem_becomes_an_error_of_its_kind(status: int, kind: type[ApiError]) -> None:
    problem = {
        "detail": "that is wrong",
        "code": "some_code",
        "request_id": "req-1",
        "errors": [{"pointer": "/name", "code": "bad", "detail": "too long"}],
    }
    client = client_that(lambda _: httpx2.Response(status, json=problem))

    with pytest.raises(kind, match="that is wrong") as caught:
        client.get_job("job-1")

    error = caught.value
    assert (error.status, error.code, error.request_id) == (status, "some_code", "req-1")
    assert [(item.pointer, item.detail) for item in error.errors] == [("/name", "too long")]


def test_an_error_page_of_a_proxy_is_still_an_error() -> None:
    client = client_that(lambda _: httpx2.Response(500, text="<html>bad gateway</html>"))

    with pytest.raises(ServerError) as caught:
        client.get_job("job-1")
    assert caught.value.code == "http_500"


def test_lists_are_read_page_by_page() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        after = request.url.params.get("after")
        first = {**JOB, "id": "job-1"}
        return page([{**JOB, "id": "job-2"}]) if after == "job-1" else page([first], has_more=True)

    assert [job.id for job in client_that(answer).list_jobs(limit=10)] == ["job-1", "job-2"]


def test_watch_tells_every_event_once_and_ends_with_the_job() -> None:
    statuses = iter(["running", "running", "succeeded"])
    events = [
        {"id": f"evt-{n}", "seq": n, "type": "note", "message": str(n), "created_at": n} for n in (1, 2, 3)
    ]
    seen = iter([1, 2, 3])

    def answer(request: httpx2.Request) -> httpx2.Response:
        kind = request.url.path.rsplit("/", 1)[-1]
        if kind == "events":
            return page(events[int(request.url.params.get("after") or 0) : next(seen)])
        if kind in ("steps", "metrics", "stream"):
            return page([]) if kind == "steps" else httpx2.Response(200)
        return httpx2.Response(200, json={**JOB, "status": next(statuses)})

    updates = list(client_that(answer).watch("job-1"))

    assert [update.job.status for update in updates] == ["running", "running", "succeeded"]
    assert [event.id for update in updates for event in update.events] == ["evt-1", "evt-2", "evt-3"]


def test_a_service_without_streams_is_asked_again_and_again() -> None:
    statuses = iter(["running", "succeeded"])

    def answer(request: httpx2.Request) -> httpx2.Response:
        kind = request.url.path.rsplit("/", 1)[-1]
        if kind == "stream":
            return httpx2.Response(404, json={"detail": "no such path", "code": "not_found"})
        if kind == "metrics":
            return httpx2.Response(200)
        return page([]) if kind != "job-1" else httpx2.Response(200, json={**JOB, "status": next(statuses)})

    updates = client_that(answer).watch("job-1", poll_seconds=0.01)

    assert [update.job.status for update in updates] == ["running", "succeeded"]


def test_watch_waits_for_a_service_that_restarts() -> None:
    num_calls = 0

    def answer(request: httpx2.Request) -> httpx2.Response:
        nonlocal num_calls
        num_calls += 1
        if num_calls < 20:
            raise httpx2.ConnectError("refused")
        kind = request.url.path.rsplit("/", 1)[-1]
        if kind == "metrics":
            return httpx2.Response(200)
        return page([]) if kind != "job-1" else httpx2.Response(200, json={**JOB, "status": "failed"})

    assert [update.job.status for update in client_that(answer).watch("job-1")] == ["failed"]
    num_calls = -1000
    with pytest.raises(UnreachableError):
        list(client_that(answer).watch("job-1", patience_seconds=0))


def test_watch_tells_of_a_point_again_when_a_resumed_attempt_rewrote_it() -> None:
    statuses = iter(["running", "succeeded"])
    points = iter([{"seq": 7, "attempt": 1}, {"seq": 8, "attempt": 2}])
    asked: list[str | None] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        kind = request.url.path.rsplit("/", 1)[-1]
        if kind == "metrics":
            asked.append(request.url.params.get("since"))
            point = {"step_name": "train.fused", "step": 1, "values": {"loss": None}, **next(points)}
            return httpx2.Response(200, text=json.dumps(point) + "\n")
        if kind in ("steps", "events"):
            return page([])
        return httpx2.Response(200, json={**JOB, "status": next(statuses)} if kind == "job-1" else {})

    updates = list(client_that(answer).watch("job-1"))

    assert [[found.attempt for found in update.metrics] for update in updates] == [[1], [2]]
    assert asked == [None, "7"]


def test_a_job_without_a_model_says_so() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return page([]) if request.url.path == "/v1/models" else httpx2.Response(200, json=JOB)

    with pytest.raises(NotFoundError, match="queued and has no model"):
        client_that(answer).download_model("job-1", into=None)  # type: ignore[arg-type]


def test_importing_the_client_loads_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "sqlalchemy", "celery", "fastapi")
    code = f"import sys, app.client; print(sorted({{*{heavy}}} & {{*sys.modules}}))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
