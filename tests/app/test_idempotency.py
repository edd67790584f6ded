"""Requests with a key are done once, on both databases."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select, update

from app.db.base import db_time
from app.db.locks import try_lock
from app.db.models import Event, IdempotencyKey, Job, Project
from app.db.session import read_only, transaction
from app.errors import Unprocessable
from app.idempotency import KEPT_SECONDS, forget_old_keys, read_key, request_digest
from app.operations.garbage import collect_garbage
from app.settings import Settings
from app.storage.opening import open_store
from tests.app.jobs import builders

KEY = {"Idempotency-Key": "k-1"}
VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)


@given(VISIBLE)
def test_a_key_is_the_same_with_and_without_quotes(key: str) -> None:
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')

    assert read_key(f'"{escaped}"') == key
    if '"' not in key[0]:
        assert read_key(key) == key


@pytest.mark.parametrize("text", ["", '"', '""', '"open', 'shut"x"', "two words", "\x7f", "ü", "k" * 256])
def test_what_is_no_key(text: str) -> None:
    if text == 'shut"x"':
        assert read_key(text) == text
        return
    with pytest.raises(Unprocessable) as refused:
        read_key(text)
    assert refused.value.errors[0].pointer == "header:Idempotency-Key"


def test_spaces_and_order_do_not_make_another_request() -> None:
    asked = request_digest("POST", "/v1/jobs", [("a", "1"), ("b", "2")], b'{"x": 1, "y": [2]}')

    assert asked == request_digest("POST", "/v1/jobs", [("b", "2"), ("a", "1")], b'{"y":[2],"x":1}\n')


@pytest.mark.parametrize(
    "other",
    [
        ("PUT", "/v1/jobs", [("a", "1")], b'{"x": 1}'),
        ("POST", "/v1/job", [("a", "1")], b'{"x": 1}'),
        ("POST", "/v1/jobs", [("a", "2")], b'{"x": 1}'),
        ("POST", "/v1/jobs", [("a", "1"), ("a", "1")], b'{"x": 1}'),
        ("POST", "/v1/jobs", [("a", "1")], b'{"x": 2}'),
        ("POST", "/v1/jobs", [("a", "1")], b"x: 1"),
    ],
)
def test_every_part_of_a_request_counts(other: tuple[str, str, list[tuple[str, str]], bytes]) -> None:
    assert request_digest("POST", "/v1/jobs", [("a", "1")], b'{"x": 1}') != request_digest(*other)


def test_a_repetition_gets_the_same_answer_whatever_happened_since(
    client: TestClient, engine: Engine
) -> None:
    first = client.post("/v1/jobs", json=builders.spec_data(), headers=KEY)
    builders.claim(engine)

    again = client.post("/v1/jobs", json=builders.spec_data(), headers={"Idempotency-Key": '"k-1"'})

    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    assert first.headers["location"] == again.headers["location"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert count(engine, Job) == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda client, url: client.post("/v1/jobs", json=builders.spec_data(seed=7), headers=KEY),
        lambda client, url: client.post(
            "/v1/jobs", json=builders.spec_data(), params={"priority": 3}, headers=KEY
        ),
        lambda client, url: client.post(f"{url}/cancel", headers=KEY),
        lambda client, url: client.post(f"{url}/clone", headers=KEY),
    ],
)
def test_a_key_is_not_used_for_another_request(
    client: TestClient, engine: Engine, other: Callable[[TestClient, str], Any]
) -> None:
    job = client.post("/v1/jobs", json=builders.spec_data(), headers=KEY).json()

    refused = other(client, f"/v1/jobs/{job['id']}")

    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert refused.json()["hint"]
    assert count(engine, Job) == 1
    assert builders.job_now(engine, job["id"]).status == "queued"


def test_a_key_belongs_to_its_project(client: TestClient, engine: Engine) -> None:
    stranger = builders.make_project(engine, "stranger")
    with transaction(engine) as session:
        session.add(
            IdempotencyKey(
                project_id=stranger, key="k-1", request_digest="0" * 64, status=201, headers={}, body="{}"
            )
        )

    assert client.post("/v1/jobs", json=builders.spec_data(), headers=KEY).status_code == 201


@pytest.mark.parametrize("action", ["cancel", "pause", "resume", "retry"])
def test_a_repeated_action_is_answered_as_the_first_time(
    client: TestClient, engine: Engine, action: str
) -> None:
    url = f"/v1/jobs/{client.post('/v1/jobs', json=builders.spec_data()).json()['id']}"
    step = builders.claim(engine)
    if action == "resume":
        client.post(f"{url}/pause")
    if action == "retry":
        builders.fail(engine, step, builders.USER_ERROR)

    first = client.post(f"{url}/{action}", headers=KEY)
    num_events = count(engine, Event)
    if action == "retry":
        # Without a key this would be refused: the job is no longer failed.
        assert client.post(f"{url}/retry").status_code == 409
    again = client.post(f"{url}/{action}", headers=KEY)

    assert (first.status_code, first.content) == (202, again.content)
    assert again.status_code == 202
    assert again.headers["idempotent-replayed"] == "true"
    assert count(engine, Event) == num_events


def test_a_refusal_leaves_the_key_free(client: TestClient, engine: Engine) -> None:
    job = client.post("/v1/jobs", json=builders.spec_data()).json()
    url = f"/v1/jobs/{job['id']}/retry"

    refused = client.post(url, headers=KEY)
    builders.fail(engine, builders.claim(engine), builders.USER_ERROR)
    done = client.post(url, headers=KEY)

    assert (refused.status_code, refused.headers["x-should-retry"]) == (409, "false")
    assert (done.status_code, done.headers.get("idempotent-replayed")) == (202, None)


# SQLite has one writer: there the second request waits for the first.
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_request_that_is_under_way_is_not_done_twice(client: TestClient, engine: Engine) -> None:
    with read_only(engine) as session:
        project_id = session.scalars(select(Project.id)).one()
    with transaction(engine) as session:
        assert try_lock(session, "idempotency", project_id, "k-1")

        refused = client.post("/v1/jobs", json=builders.spec_data(), headers=KEY)
        other_key = client.post("/v1/jobs", json=builders.spec_data(), headers={"Idempotency-Key": "k-2"})
    done = client.post("/v1/jobs", json=builders.spec_data(), headers=KEY)

    assert (refused.status_code, refused.json()["code"]) == (409, "idempotency_in_progress")
    assert (refused.headers["retry-after"], refused.headers["x-should-retry"]) == ("1", "true")
    assert (other_key.status_code, done.status_code) == (201, 201)


def test_a_broken_key_is_refused(client: TestClient) -> None:
    refused = client.post("/v1/jobs", json=builders.spec_data(), headers={"Idempotency-Key": '"open'})

    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_invalid")
    assert refused.json()["errors"][0]["pointer"] == "header:Idempotency-Key"


def test_keys_are_kept_for_a_week(client: TestClient, engine: Engine, settings: Settings) -> None:
    for key in ("old", "new"):
        client.post("/v1/jobs", json=builders.spec_data(), headers={"Idempotency-Key": key})
    with transaction(engine) as session:
        old = update(IdempotencyKey).where(IdempotencyKey.key == "old")
        session.execute(old.values(created_at=db_time(-KEPT_SECONDS - 1)))

    assert forget_old_keys(engine, dry_run=True) == 1
    report = collect_garbage(engine, open_store(settings.storage_url), settings)

    assert [item.num for item in report.found if item.kind == "idempotency key"] == [1]
    with read_only(engine) as session:
        assert session.scalars(select(IdempotencyKey.key)).all() == ["new"]


def count(engine: Engine, table: type[Any]) -> int:
    with read_only(engine) as session:
        return session.scalar(select(func.count()).select_from(table)) or 0
