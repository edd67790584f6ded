"""Clients that lose answers and ask again, over real sockets and on both databases."""

import json
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from urllib.parse import urlsplit

import httpx2
import pytest
from sqlalchemy import Engine, func, select, update

from app.accounts.bootstrap import ensure_admin_key
from app.db.base import db_time
from app.db.models import ApiKey, Job
from app.db.session import read_only, transaction
from app.main import create_app
from app.settings import Settings
from tests.app.jobs import builders as given
from tests.support.fault_proxy import proxied_database
from tests.support.serving import serving

NUM_CLIENTS = 50
NUM_KEYS = int(os.environ.get("FUSION_TEST_KEYS", "1"))
"""Set it higher for a long run; each takes as many requests as there are clients."""


@pytest.fixture
def key(settings: Settings, engine: Engine) -> str:
    app = create_app(settings)
    text = ensure_admin_key(engine, path=settings.data_dir / "admin_key", pepper=app.state.key_pepper)
    app.state.engine.dispose()
    return text


@pytest.fixture
def url(settings: Settings, engine: Engine) -> Iterator[str]:
    with serving(create_app(settings.model_copy(update={"housekeeping": False}))) as address:
        yield address


def test_fifty_at_once_with_one_key_make_one_job(url: str, key: str, engine: Engine) -> None:
    for number in range(NUM_KEYS):
        answers = ask_at_once(url, {"Authorization": f"Bearer {key}", "Idempotency-Key": f"same-{number}"})

        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == 1
        assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
        assert num_jobs(engine) == number + 1


def ask_at_once(url: str, headers: dict[str, str]) -> list[httpx2.Response]:
    """The same submission from many clients, and what each was told in the end."""
    barrier = Barrier(NUM_CLIENTS)

    def post(_: int) -> httpx2.Response:
        with httpx2.Client(base_url=url, headers=headers, timeout=60) as client:
            barrier.wait()
            for _ in range(60):
                response = client.post("/v1/jobs", json=given.spec_data())
                if response.status_code != 409:
                    return response
                assert response.json()["code"] == "idempotency_in_progress"
                assert response.headers["retry-after"] == "1"
                time.sleep(0.2)
        raise AssertionError("in progress for ever")

    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        return list(pool.map(post, range(NUM_CLIENTS)))


@pytest.mark.parametrize("headers", [{"Idempotency-Key": "k"}, {"x-stainless-retry-count": "1"}])
def test_a_client_that_lost_the_answer_gets_the_job_that_was_made(
    url: str, key: str, engine: Engine, headers: dict[str, str]
) -> None:
    first = {name: value for name, value in headers.items() if name == "Idempotency-Key"}
    send_and_lose_the_answer(url, {"Authorization": f"Bearer {key}", **first})
    assert num_jobs(engine) == 1

    again = httpx2.post(
        f"{url}/v1/jobs", content=body(), headers={"Authorization": f"Bearer {key}", **headers}, timeout=60
    )

    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert num_jobs(engine) == 1


# SQLite has no connection that could break.
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("headers", [{"Idempotency-Key": "k"}, {"x-stainless-retry-count": "1"}])
def test_a_commit_without_an_answer_is_found_again(
    settings: Settings, key: str, engine: Engine, database_url: str, headers: dict[str, str]
) -> None:
    with proxied_database(database_url) as (proxied_url, proxy):
        through = settings.model_copy(update={"database_url": proxied_url, "housekeeping": False})
        with serving(create_app(through)) as url:
            sender = httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60)
            with sender:
                sender.get("/v1/jobs").raise_for_status()
                # The use of a key is noted after the answer, in a commit of its own.
                wait_for_note_of_use(engine)
                # The first one ends the look at the key.
                proxy.cut_next_commit("after", spare=1)
                first = sender.post(
                    "/v1/jobs", content=body(), headers=headers | {"x-stainless-retry-count": "0"}
                )
                again = sender.post("/v1/jobs", content=body(), headers=headers)

    assert (first.status_code, proxy.num_commit_cuts) == (503, 1)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert num_jobs(engine) == 1


def wait_for_note_of_use(engine: Engine) -> None:
    deadline = time.monotonic() + 30
    while True:
        with read_only(engine) as session:
            if session.scalars(select(ApiKey.last_used_at)).one() is not None:
                return
        assert time.monotonic() < deadline, "nobody noted that the key was used"
        time.sleep(0.01)


def test_only_a_repetition_without_a_key_gets_an_earlier_job(url: str, key: str, engine: Engine) -> None:
    def post(retry_count: str | None, *, bearer: str = key, seed: int = 0, priority: int = 0) -> str:
        count = {} if retry_count is None else {"x-stainless-retry-count": retry_count}
        response = httpx2.post(
            f"{url}/v1/jobs",
            json=given.spec_data(seed=seed),
            params={"priority": priority},
            headers={"Authorization": f"Bearer {bearer}", **count},
            timeout=60,
        )
        assert response.status_code == 201, response.text
        job_id: str = response.json()["id"]
        return job_id

    admin = {"Authorization": f"Bearer {key}"}
    other = httpx2.post(f"{url}/v1/api_keys", json={"name": "other"}, headers=admin, timeout=60).json()[
        "secret"
    ]
    first = post("0")

    assert post("1") == post("2") == first
    anew = [
        post("0"),
        post(None),
        post("x"),
        post("1", bearer=other),
        post("1", seed=1),
        post("1", priority=1),
    ]
    assert len({first, *anew}) == 7
    with transaction(engine) as session:
        session.execute(update(Job).values(created_at=db_time(-16 * 60)))
    assert post("1") not in {first, *anew}


def test_a_repeated_clone_without_a_key_is_one_job(url: str, key: str, engine: Engine) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    original = httpx2.post(f"{url}/v1/jobs", json=given.spec_data(), headers=headers, timeout=60).json()["id"]
    clone_url = f"{url}/v1/jobs/{original}/clone"

    first = httpx2.post(clone_url, headers=headers, timeout=60).json()["id"]
    again = httpx2.post(clone_url, headers={**headers, "x-stainless-retry-count": "1"}, timeout=60)

    assert again.json()["id"] == first
    assert num_jobs(engine) == 2


def body() -> bytes:
    return json.dumps(given.spec_data()).encode()


def send_and_lose_the_answer(url: str, headers: dict[str, str]) -> None:
    """Send a request and hang up at the first byte of its answer."""
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    content = body()
    lines = ["POST /v1/jobs HTTP/1.1", "Host: x", f"Content-Length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + content)
        connection.settimeout(60)
        assert connection.recv(1)


def num_jobs(engine: Engine) -> int:
    with read_only(engine) as session:
        return session.scalar(select(func.count()).select_from(Job)) or 0
