"""The servers of the tests answer, are fresh, and are gone afterwards; what a killed run left is swept."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from sqlalchemy import make_url

from tests.support.server_folders import sweep
from tests.support.services import create_database, drop_database, private_redis


def _connect(url: str) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))


def test_every_database_is_fresh(postgres_server: str) -> None:
    first, second = create_database(postgres_server), create_database(postgres_server)

    with _connect(first) as one:
        one.execute("CREATE TABLE marks (id int)")
    with _connect(second) as two:
        found = two.execute("SELECT to_regclass('marks')").fetchone()

    assert found == (None,)
    drop_database(postgres_server, first)
    drop_database(postgres_server, second)


def test_dropping_a_database_needs_no_closed_connections(postgres_server: str) -> None:
    url = create_database(postgres_server)
    held = _connect(url)

    drop_database(postgres_server, url)

    held.close()


def test_redis_is_gone_after_use() -> None:
    with private_redis() as url, redis.Redis.from_url(url) as client:
        pid = int(client.info("server")["process_id"])
        client.set("mark", 1)

    assert not psutil.pid_exists(pid)


HOLD = """
import subprocess, sys, time
from tests.support.server_folders import server_folder
with server_folder("redis") as folder:
    sleep = [sys.executable, "-c", "import time; time.sleep(120)"]
    server = subprocess.Popen(sleep, cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL)
    print(folder, server.pid, flush=True)
    time.sleep(120)
"""


@pytest.fixture
def running() -> Iterator[tuple[subprocess.Popen[str], Path, int]]:
    """A test run with a server: its process, the server's folder and id."""
    run = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    with run:
        assert run.stdout is not None
        folder, server = run.stdout.readline().split()
        yield run, Path(folder), int(server)
        run.kill()
    sweep()


def test_what_a_killed_run_left_is_swept_with_its_server(
    running: tuple[subprocess.Popen[str], Path, int],
) -> None:
    run, folder, server = running
    run.kill()
    run.wait()

    swept = sweep()

    assert folder in swept
    assert not folder.exists()
    assert not is_running(server)


def test_what_is_in_use_is_not_swept(running: tuple[subprocess.Popen[str], Path, int]) -> None:
    _, folder, server = running

    swept = sweep()

    assert folder not in swept
    assert folder.is_dir()
    assert is_running(server)


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
