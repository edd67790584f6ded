"""The servers the other tests stand on answer, are fresh, and are gone afterwards."""

import psutil
import psycopg
import redis
from sqlalchemy import make_url

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
