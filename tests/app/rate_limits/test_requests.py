"""Requests over a limit, in one process and in two that share a Redis."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from app.accounts.access import OPEN_PATHS
from app.db.models import AuditEvent
from app.db.session import read_only
from app.rate_limits.counting import WINDOW_SECONDS
from app.rate_limits.limits import RateLimits
from tests.support.api import make_api
from tests.support.api_process import ApiProcess, running_api
from tests.support.server_folders import server_folder
from tests.support.services import start_redis, started

LIMIT = 40


def statuses(client: TestClient, method: str, path: str, *, times: int, headers: dict[str, str]) -> set[int]:
    return {client.request(method, path, headers=headers).status_code for _ in range(times)}


def test_a_key_over_its_limit_is_refused_before_anything_else(tmp_path: Path) -> None:
    api = make_api(tmp_path, rate_limits=RateLimits(key=1))
    limited, other = api.key(), api.key()

    first = api.client.get("/v1/jobs", headers=limited)
    # In the same minute or, by a hair, in the next one.
    answers = [api.client.delete("/v1/jobs/x", headers=limited) for _ in range(3)]

    assert first.headers["RateLimit-Policy"] == '"key";q=1;w=60, "project";q=18000;w=60'
    assert first.headers["RateLimit"].startswith('"key";r=0;t=')
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "rate_limit_exceeded"
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(refused.headers["Retry-After"]) <= WINDOW_SECONDS
    assert api.client.get("/v1/jobs", headers=other).status_code == 200
    with read_only(api.engine) as session:
        assert (session.scalar(select(func.count()).select_from(AuditEvent)) or 0) < len(answers)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer nonsense"}])
def test_strangers_are_limited_by_address_and_hold_nobody_up(tmp_path: Path, headers: dict[str, str]) -> None:
    api = make_api(tmp_path, rate_limits=RateLimits(address=2))

    found = statuses(api.client, "GET", "/v1/jobs", times=7, headers=headers)

    assert found == {401, 429}
    assert api.client.get("/v1/jobs", headers=api.headers).status_code == 200


def test_strangers_of_one_ipv6_network_are_one_caller(tmp_path: Path) -> None:
    api = make_api(tmp_path, rate_limits=RateLimits(address=2))

    found = {
        network: {
            TestClient(api.app, client=(f"2001:db8:1:{network}::{host}", 50_000)).get("/v1/jobs").status_code
            for host in range(1, 8)
        }
        for network in ("a", "b")
    }

    assert found == {"a": {401, 429}, "b": {401, 429}}


def test_routes_without_a_key_are_not_limited(tmp_path: Path) -> None:
    api = make_api(tmp_path, rate_limits=RateLimits(address=1))

    for path in OPEN_PATHS:
        assert 429 not in statuses(api.client, "GET", path, times=4, headers={})


def test_processes_share_a_limit_and_stay_quick_without_their_redis(tmp_path: Path) -> None:
    with (
        server_folder("redis") as folder,
        started(lambda port: start_redis(folder, port=port)) as (redis, port),
    ):
        environment = {
            "FUSION_RATE_LIMITS": f'{{"key": {LIMIT}}}',
            "FUSION_RATE_LIMIT_URL": f"redis://127.0.0.1:{port}/0",
        }
        with (
            running_api(tmp_path, environment=environment) as first,
            running_api(tmp_path, environment=environment) as second,
        ):
            # Neither alone is asked more often than it may be.
            shared = ask_within_a_minute([first, second] * LIMIT)
            os.kill(redis.pid, signal.SIGSTOP)
            # A client that waits no longer than this would raise.
            local = ask_within_a_minute([first] * LIMIT)
            os.kill(redis.pid, signal.SIGCONT)

    assert shared == [200] * LIMIT + [429] * LIMIT
    assert local == [200] * (LIMIT // 4) + [429] * (LIMIT - LIMIT // 4)


def test_no_connection_to_the_database_waits_for_redis(tmp_path: Path) -> None:
    held: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api = make_api(tmp_path, rate_limit_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0")

        def hear() -> None:
            connection, _ = silent.accept()
            with connection:
                connection.recv(1)
                held.append(api.app.state.engine.pool.checkedout())

        listener = threading.Thread(target=hear)
        listener.start()
        assert api.client.get("/v1/me", headers=api.headers).status_code == 200
        listener.join()

    assert held == [0]


def ask_within_a_minute(processes: list[ApiProcess]) -> list[int]:
    """Statuses of requests to them in turn, with a new key, all of them within one window."""
    while True:
        asked = httpx2.post(
            f"{processes[0].url}/v1/api_keys", json={"name": "x"}, headers=processes[0].headers
        )
        headers = {"Authorization": f"Bearer {asked.json()['secret']}"}
        window = time.time() // WINDOW_SECONDS
        found = [
            httpx2.get(f"{process.url}/v1/me", headers=headers, timeout=3).status_code
            for process in processes
        ]
        if time.time() // WINDOW_SECONDS == window:
            return found
