"""Chores that are done again and again, whatever goes wrong, in threads or in a process of their own."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from kombu.exceptions import OperationalError
from sqlalchemy import Engine, func, select

from app.db.models import OutboxMessage
from app.db.session import create_engine, read_only
from app.operations.housekeeping import Chore, Housekeeper, all_chores, mending_chores
from app.queue import CeleryDoorbell, relay_outbox
from app.settings import Settings
from app.storage.opening import open_store
from fusion.errors import InfrastructureError
from tests.app.jobs import builders as given
from tests.support.services import private_redis


def test_the_outbox_is_emptied_until_the_stop(engine: Engine, settings: Settings) -> None:
    given.submit_in_new_project(engine)
    quick = settings.model_copy(update={"reconcile_seconds": 0.01, "gc_seconds": 0.01})
    housekeeper = Housekeeper(all_chores(engine, open_store("memory://"), quick))

    housekeeper.start()
    wait_for(lambda: num_waiting(engine) == 0)
    housekeeper.stop()


@pytest.mark.parametrize(
    "error",
    [OperationalError("gone"), OSError(), InfrastructureError("full", code="full"), KeyError("mistake")],
)
def test_no_error_ends_a_chore(error: Exception) -> None:
    rounds = 0

    def fail() -> None:
        nonlocal rounds
        rounds += 1
        raise error

    housekeeper = Housekeeper([Chore(name="failing", every_seconds=0.001, run=fail)])
    housekeeper.start()
    wait_for(lambda: rounds > 3)
    housekeeper.stop()


def test_a_missing_database_is_an_error_of_its_round(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'missing' / 'fusion.db'}")

    for chore in mending_chores(engine, Settings(data_dir=tmp_path)):
        chore.try_once()


def test_a_slow_chore_delays_no_other() -> None:
    rounds = 0

    def count() -> None:
        nonlocal rounds
        rounds += 1

    hanging = threading.Event()
    slow = Chore(name="slow", every_seconds=0.001, run=hanging.wait)
    housekeeper = Housekeeper([slow, Chore(name="quick", every_seconds=0.001, run=count)])
    housekeeper.start()
    wait_for(lambda: rounds > 5)
    hanging.set()
    housekeeper.stop()


def test_a_round_without_end_holds_up_no_stop() -> None:
    started, endless = threading.Event(), threading.Event()

    def collect() -> None:
        started.set()
        endless.wait()

    housekeeper = Housekeeper([Chore(name="gc", every_seconds=0.001, run=collect)])
    housekeeper.start()
    started.wait()
    stopping = threading.Thread(target=housekeeper.stop, kwargs={"within_seconds": 0.1}, daemon=True)
    stopping.start()
    stopping.join(timeout=30)
    still_stopping = stopping.is_alive()
    endless.set()

    assert not still_stopping


@pytest.mark.parametrize("num_processes", [1, 3])
def test_processes_of_their_own_share_the_work(
    engine: Engine, settings: Settings, database_url: str, tmp_path: Path, num_processes: int
) -> None:
    with private_redis() as broker_url:
        environment = {
            **os.environ,
            "FUSION_DATABASE_URL": database_url,
            "FUSION_BROKER_URL": broker_url,
            "FUSION_DATA_DIR": str(settings.data_dir),
            "FUSION_GC_SECONDS": "0.2",
        }
        settings.data_dir.mkdir()
        command = [sys.executable, "-m", "app.cli", "housekeeper"]
        with (tmp_path / "log").open("wb") as log:
            processes = [
                subprocess.Popen(command, env=environment, stdout=log, stderr=log)
                for _ in range(num_processes)
            ]
        try:
            # A process that is still being imported does not hear SIGTERM as a wish.
            wait_for(
                lambda: (tmp_path / "log").read_bytes().count(b"housekeeper_started") == num_processes,
                seconds=60,
            )
            project_id = given.make_project(engine)
            for _ in range(20):
                given.submit(engine, project_id)
            wait_for(lambda: num_waiting(engine) == 0, seconds=60)
            with redis.Redis.from_url(broker_url) as broker:
                assert broker.llen("fusion:cpu") == 20
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
        assert [process.wait(timeout=30) for process in processes] == [0] * num_processes
        assert b"Traceback" not in (tmp_path / "log").read_bytes()


def test_a_frozen_broker_delays_no_submission_and_loses_no_ring(engine: Engine, settings: Settings) -> None:
    project_id = given.make_project(engine)
    with private_redis() as broker_url:
        with redis.Redis.from_url(broker_url) as broker:
            pid = int(broker.info("server")["process_id"])
        relay = Chore(
            name="relay",
            every_seconds=0.05,
            run=lambda doorbell=CeleryDoorbell(broker_url): relay_outbox(engine, doorbell),
        )
        housekeeper = Housekeeper([relay, *mending_chores(engine, settings)[1:]])
        os.kill(pid, signal.SIGSTOP)
        try:
            housekeeper.start()
            frozen_at, seconds = time.monotonic(), []
            while time.monotonic() - frozen_at < 7:
                began = time.monotonic()
                given.submit(engine, project_id)
                seconds.append(time.monotonic() - began)
                time.sleep(0.1)
            assert num_waiting(engine) == len(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_for(lambda: num_waiting(engine) == 0, seconds=30)
        housekeeper.stop()
        with redis.Redis.from_url(broker_url) as broker:
            # A ring whose answer was late was rung again, which is harmless.
            assert broker.llen("fusion:cpu") >= len(seconds)
    assert sorted(seconds)[len(seconds) // 2] < 0.5
    assert max(seconds) < 4, "submissions waited for the broker"


def num_waiting(engine: Engine) -> int:
    with read_only(engine) as session:
        return session.scalar(select(func.count()).select_from(OutboxMessage)) or 0


def wait_for(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
