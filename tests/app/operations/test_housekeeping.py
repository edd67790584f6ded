"""The thread that keeps house."""

import time
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError
from sqlalchemy import Engine, func, select

from app.db.models import OutboxMessage
from app.db.session import create_engine, read_only
from app.operations.housekeeping import Housekeeper
from tests.app.jobs import builders as given


class BrokenDoorbell:
    def ring(self, resource: str) -> None:
        raise OperationalError("the broker is gone")


def test_it_empties_the_outbox_and_stops(engine: Engine) -> None:
    given.submit_in_new_project(engine)
    housekeeper = Housekeeper(engine, doorbell=None, lease_seconds=60, reconcile_seconds=0.01)

    housekeeper.start()
    deadline = time.monotonic() + 10
    while _num_waiting(engine) and time.monotonic() < deadline:
        time.sleep(0.01)
    housekeeper.stop()

    assert _num_waiting(engine) == 0


def test_a_broken_broker_does_not_end_it(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    given.submit_in_new_project(engine)
    housekeeper = Housekeeper(engine, doorbell=BrokenDoorbell(), lease_seconds=60, reconcile_seconds=1)

    housekeeper.run_once()

    assert _num_waiting(engine) == 1


def test_a_missing_database_does_not_end_it(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'missing' / 'fusion.db'}")

    Housekeeper(engine, doorbell=None, lease_seconds=60, reconcile_seconds=1).run_once()


def _num_waiting(engine: Engine) -> int:
    with read_only(engine) as session:
        return session.scalar(select(func.count()).select_from(OutboxMessage)) or 0
