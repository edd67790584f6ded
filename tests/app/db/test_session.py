"""Transactions on both databases."""

import os
import socket
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from app.db.insert import insert_if_absent
from app.db.models import ApiKey, Job, Project
from app.db.session import create_engine, in_transaction, read_only, transaction
from tests.app.jobs import builders as given


def test_an_error_undoes_everything(engine: Engine) -> None:
    def stumble(session: Session) -> None:
        session.add(Project(name="p"))
        session.flush()
        raise RuntimeError("stumbled")

    with pytest.raises(RuntimeError, match="stumbled"):
        in_transaction(engine, stumble)

    with read_only(engine) as session:
        assert session.scalar(select(func.count()).select_from(Project)) == 0


def test_a_reader_cannot_write_on_postgresql_and_takes_no_lock_on_sqlite(engine: Engine) -> None:
    if engine.dialect.name == "postgresql":
        with pytest.raises(DBAPIError, match="read-only"), read_only(engine) as session:
            session.execute(text("INSERT INTO projects VALUES ('a', 'b', now())"))
    else:
        with transaction(engine) as writer, read_only(engine) as reader:
            writer.add(Project(name="p"))
            writer.flush()
            assert reader.scalars(select(Project)).all() == []


def test_read_then_write_is_never_lost_under_contention(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)

    def count_up(_: int) -> None:
        with transaction(engine) as session:
            seq = session.scalars(select(Job.last_event_seq).where(Job.id == job.id).with_for_update()).one()
            session.execute(update(Job).where(Job.id == job.id).values(last_event_seq=seq + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_up, range(40)))

    assert given.job_now(engine, job.id).last_event_seq == job.last_event_seq + 40


def test_foreign_keys_are_enforced(engine: Engine) -> None:
    with pytest.raises(IntegrityError), transaction(engine) as session:
        session.add(ApiKey(project_id="proj-none", name="k", prefix="p", secret_hash="h", scopes=[]))


def test_sqlite_is_set_up_to_survive_a_power_cut(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.connect() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }

    expected = "wal" if sqlite3.sqlite_version_info >= (3, 51, 3) else "delete"
    assert pragmas == {"journal_mode": expected, "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


def test_insert_if_absent_waits_for_whoever_is_inserting(engine: Engine) -> None:
    inserted, go_on = threading.Event(), threading.Event()

    def slow() -> bool:
        with transaction(engine) as session:
            done = insert_if_absent(session, Project, {"id": "proj-1", "name": "a", "created_at": func.now()})
            inserted.set()
            go_on.wait(10)
            return done

    def fast() -> bool:
        inserted.wait(10)
        threading.Timer(0.2, go_on.set).start()
        with transaction(engine) as session:
            return insert_if_absent(session, Project, {"id": "proj-1", "name": "b", "created_at": func.now()})

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(slow), pool.submit(fast)

    assert (first.result(), second.result()) == (True, False)


def test_plain_postgresql_urls_get_the_driver_that_is_installed(postgres_database: str) -> None:
    engine = create_engine(postgres_database.replace("+psycopg", ""))

    with read_only(engine) as session:
        assert session.scalar(select(1)) == 1
    engine.dispose()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has these options")
def test_a_server_that_is_gone_without_a_word_is_noticed_within_a_minute(postgres_database: str) -> None:
    engine = create_engine(postgres_database)

    with engine.connect() as connection:
        driver_connection = connection.connection.driver_connection
        assert driver_connection is not None
        with socket.socket(fileno=os.dup(driver_connection.fileno())) as tcp:
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            idle, interval, count, unheard = (tcp.getsockopt(socket.IPPROTO_TCP, one) for one in options)
            is_probed = tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    engine.dispose()

    assert is_probed
    assert idle + interval * count <= 60
    assert 0 < unheard <= 60_000


def test_what_a_database_url_says_of_its_connection_wins(postgres_database: str) -> None:
    engine = create_engine(f"{postgres_database}?connect_timeout=3&tcp_user_timeout=5000")

    with engine.connect() as connection:
        driver_connection = connection.connection.driver_connection
        assert driver_connection is not None
        said = driver_connection.info.get_parameters()
    engine.dispose()

    assert (said["connect_timeout"], said["tcp_user_timeout"], said["keepalives_idle"]) == ("3", "5000", "30")
