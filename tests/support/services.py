"""A private PostgreSQL cluster and a private Redis for the tests that need the real thing.

Fixtures: `postgres_server` (URL of the session's server), `postgres_database` (URL of a fresh database of
one test), `redis_server` (URL). `FUSION_TEST_DATABASE_URL` and `FUSION_TEST_BROKER_URL` name servers to use
instead. Missing binaries skip the test, except under `CI`, where they fail it.
"""

import functools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest
import redis
from psycopg import sql
from sqlalchemy import make_url

from tests.support import server_folders
from tests.support.server_folders import server_folder

START_SECONDS = 30
START_ATTEMPTS = 3
SUPERUSER = "fusion"


class PortTakenError(RuntimeError):
    """Somebody else took the free port between looking and binding."""


def pytest_sessionstart() -> None:
    """Remove what killed runs left behind."""
    server_folders.sweep()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """SQLAlchemy URL of an empty database on a server that this session may write to freely."""
    given = os.environ.get("FUSION_TEST_DATABASE_URL")
    if given:
        yield given
        return
    with private_postgres() as url:
        yield url


@pytest.fixture
def postgres_database(postgres_server: str) -> Iterator[str]:
    """SQLAlchemy URL of an empty database that is dropped after the test."""
    url = create_database(postgres_server)
    yield url
    drop_database(postgres_server, url)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """URL of a Redis that this session may write to freely."""
    given = os.environ.get("FUSION_TEST_BROKER_URL")
    if given:
        yield given
        return
    with private_redis() as url:
        yield url


def create_database(server_url: str, *, template_url: str | None = None) -> str:
    """Create a database on the server, empty or a copy of another one, and return its URL.

    Nobody may be connected to the template.
    """
    name = f"test_{uuid.uuid4().hex[:16]}"
    template = (make_url(template_url).database if template_url else None) or "template1"
    _execute(server_url, f"CREATE DATABASE {{}} TEMPLATE {{}} {_quickest_copy(server_url)}", name, template)
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def drop_database(server_url: str, database_url: str) -> None:
    """Drop what `create_database` made, also while connections are open."""
    name = make_url(database_url).database
    assert name is not None
    assert name.startswith("test_")
    _execute(server_url, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)


def make_role(database_url: str, role: str) -> None:
    """A role that may log in and nothing more, unless the server has it."""
    with suppress(psycopg.errors.DuplicateObject):
        _execute(database_url, "CREATE ROLE {} LOGIN", role)


def as_role(database_url: str, role: str) -> str:
    """The same database for another role; the tests' servers ask for no password."""
    return make_url(database_url).set(username=role, password=None).render_as_string(hide_password=False)


@contextmanager
def out_of_reach(server_url: str, database_url: str) -> Iterator[None]:
    """Break all connections of a database and let nobody in while the block runs."""
    name = make_url(database_url).database
    assert name is not None
    _execute(server_url, "ALTER DATABASE {} WITH ALLOW_CONNECTIONS false", name)
    try:
        _execute(
            server_url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        )
        yield
    finally:
        _execute(server_url, "ALTER DATABASE {} WITH ALLOW_CONNECTIONS true", name)


@contextmanager
def private_postgres(*, superuser: str = SUPERUSER) -> Iterator[str]:
    """Start a PostgreSQL of our own on a free loopback port; it dies with this process."""
    with server_folder("postgres") as folder:
        data = init_postgres(folder, superuser=superuser)
        with started(lambda port: start_postgres(data, port=port, superuser=superuser)) as (process, port):
            yield f"postgresql+psycopg://{superuser}@127.0.0.1:{port}/postgres"
            stop(process, signal.SIGINT)


def init_postgres(folder: Path, *, superuser: str = SUPERUSER) -> Path:
    """A new cluster in a folder; where its data lies."""
    user = _unprivileged_user()
    if user is not None:
        shutil.chown(folder, user.pw_uid, user.pw_gid)
    data = folder / "data"
    initdb = [str(postgres_binaries() / "initdb"), "-D", str(data), "-U", superuser, "-A", "trust"]
    command = [*initdb, "-E", "UTF8", "--locale=C", "-N"]
    subprocess.run(command, check=True, cwd=folder, capture_output=True, **_as_user(user))
    return data


@contextmanager
def private_redis() -> Iterator[str]:
    """Start a Redis of our own on a free loopback port, nothing kept on disk; it dies with this process."""
    with (
        server_folder("redis") as folder,
        started(lambda port: start_redis(folder, port=port)) as (process, port),
    ):
        yield f"redis://127.0.0.1:{port}/0"
        stop(process, signal.SIGTERM)


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(
    start: Callable[[int], subprocess.Popen[bytes]],
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start a server on a free port, on another one when that was taken; kill it when the block ends."""
    for attempt in range(START_ATTEMPTS):
        port = free_port()
        try:
            process = start(port)
        except PortTakenError:
            if attempt == START_ATTEMPTS - 1:
                raise
            continue
        break
    try:
        yield process, port
    finally:
        stop(process, signal.SIGQUIT)


def start_postgres(
    data: Path, *, port: int, durable: bool = False, superuser: str = SUPERUSER
) -> subprocess.Popen[bytes]:
    """Start the server of a cluster; one that is `durable` may be killed and started again.

    Raises:
        PortTakenError: it ended at once, or somebody else answers.
    """
    options = ["listen_addresses=127.0.0.1", "unix_socket_directories="]
    if not durable:
        options += ["fsync=off", "full_page_writes=off"]
    command = [
        postgres_binaries() / "postgres",
        "-D",
        data,
        "-p",
        str(port),
        *(word for o in options for word in ("-c", o)),
    ]
    user = _unprivileged_user()
    process = spawn(command, data.parent / "log", death_signal=signal.SIGQUIT, user=user)

    def is_ours() -> bool:
        with psycopg.connect(host="127.0.0.1", port=port, user=superuser, dbname="postgres") as connection:
            row = connection.execute("SHOW data_directory").fetchone()
        return row is not None and Path(row[0]) == data

    wait_until(is_ours, process=process, log=data.parent / "log", not_yet=psycopg.OperationalError)
    return process


def start_redis(folder: Path, *, port: int) -> subprocess.Popen[bytes]:
    """Start a server that keeps nothing on disk.

    Raises:
        PortTakenError: it ended at once, or somebody else answers.
    """
    binary = shutil.which("redis-server")
    if binary is None:
        missing("redis-server is not installed (Debian: apt-get install redis-server)")
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = spawn([*command, "--dir", folder], folder / "log", death_signal=signal.SIGTERM, user=None)

    def is_ours() -> bool:
        with redis.Redis(port=port, socket_timeout=5) as client:
            return int(client.info("server")["process_id"]) == process.pid

    wait_until(is_ours, process=process, log=folder / "log", not_yet=redis.ConnectionError)
    return process


def spawn(
    command: list[object], log: Path, *, death_signal: signal.Signals, user: pwd.struct_passwd | None
) -> subprocess.Popen[bytes]:
    """Run a server in its own session, sent `death_signal` by the kernel should this process die."""
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", death_signal.name.removeprefix("SIG")] if setpriv else []
    with log.open("ab") as output:
        return subprocess.Popen(
            [*guard, *(str(word) for word in command)],
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **_as_user(user),
        )


def wait_until(
    is_ours: Callable[[], bool],
    *,
    process: subprocess.Popen[bytes],
    log: Path,
    not_yet: type[Exception],
    seconds: float = START_SECONDS,
) -> None:
    """Wait for the server to answer and to be the one we started."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise PortTakenError(f"the server ended at once: {log.read_text(errors='replace')[-2000:]}")
        with suppress(not_yet):
            if is_ours():
                return
            stop(process, signal.SIGKILL)
            raise PortTakenError("another server answers on our port")
        time.sleep(0.05)
    stop(process, signal.SIGKILL)
    raise RuntimeError(f"no answer in {seconds} s: {log.read_text(errors='replace')[-2000:]}")


def stop(process: subprocess.Popen[bytes], stop_signal: signal.Signals) -> None:
    if process.poll() is not None:
        return
    process.send_signal(stop_signal)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)


@functools.cache
def _quickest_copy(server_url: str) -> str:
    """How this server copies a small database fastest; before PostgreSQL 15 there was no choice."""
    with _connect(server_url) as connection:
        return "STRATEGY FILE_COPY" if connection.info.server_version >= 150_000 else ""


def _execute(server_url: str, statement: str, *names: str) -> None:
    """Run a statement that may not stand in a transaction."""
    with _connect(server_url) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _connect(server_url: str) -> psycopg.Connection[Any]:
    plain = make_url(server_url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True)


def postgres_binaries() -> Path:
    """Folder of the newest installed server."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = str(versions[-1]) if versions else shutil.which("initdb")
    if found is None:
        missing("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return Path(found).resolve().parent


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Whom the server runs as; PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    return missing("PostgreSQL cannot run as root and there is no user postgres or nobody")


def _as_user(user: pwd.struct_passwd | None) -> dict[str, Any]:
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def missing(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
