"""The outbox relay."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from kombu.exceptions import OperationalError
from sqlalchemy import Engine, func, select

from app.db.models import OutboxMessage
from app.db.session import read_only, transaction
from app.jobs import repository
from app.queue import QUEUES, WAKE_TASK, CeleryDoorbell, open_doorbell, relay_outbox


class RecordingDoorbell:
    def __init__(self, *, broken_after: int | None = None) -> None:
        self.rung: list[str] = []
        self._broken_after = broken_after

    def ring(self, resource: str) -> None:
        if self._broken_after is not None and len(self.rung) >= self._broken_after:
            raise OperationalError("the broker is gone")
        self.rung.append(resource)


def put(engine: Engine, *resources: str, after_seconds: float = 0.0) -> None:
    with transaction(engine) as session:
        for resource in resources:
            repository.ring(session, resource, after_seconds=after_seconds)


def num_waiting(engine: Engine) -> int:
    with read_only(engine) as session:
        return session.scalar(select(func.count()).select_from(OutboxMessage)) or 0


def test_what_is_due_is_sent_once(engine: Engine) -> None:
    put(engine, "cpu", "gpu")
    put(engine, "gpu", after_seconds=60)
    doorbell = RecordingDoorbell()

    assert relay_outbox(engine, doorbell) == 2
    assert relay_outbox(engine, doorbell) == 0

    assert sorted(doorbell.rung) == ["cpu", "gpu"]
    assert num_waiting(engine) == 1


def test_what_a_broken_broker_did_not_take_is_sent_once_it_works(engine: Engine) -> None:
    put(engine, "cpu", "cpu", "cpu")

    with pytest.raises(OperationalError):
        relay_outbox(engine, RecordingDoorbell(broken_after=1))

    assert num_waiting(engine) == 2
    assert relay_outbox(engine, RecordingDoorbell()) == 2


def test_without_a_broker_the_outbox_is_emptied(engine: Engine) -> None:
    put(engine, "cpu", "gpu")

    assert relay_outbox(engine, open_doorbell(None)) == 2

    assert num_waiting(engine) == 0


def test_two_relays_at_once_send_each_message_once(engine: Engine) -> None:
    put(engine, *["gpu"] * 50)
    doorbell = RecordingDoorbell()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: relay_outbox(engine, doorbell), range(4)))

    assert len(doorbell.rung) == 50
    assert num_waiting(engine) == 0


@pytest.mark.parametrize("resource", QUEUES)
def test_a_ring_arrives_at_its_queue(redis_server: str, resource: str) -> None:
    with redis.Redis.from_url(redis_server) as broker:
        broker.flushdb()

        CeleryDoorbell(redis_server).ring(resource)

        assert broker.llen(f"fusion:{resource}") == 1
        assert WAKE_TASK.encode() in broker.lindex(f"fusion:{resource}", 0)


def test_a_missing_broker_is_an_error_soon(free_tcp_port: int) -> None:
    with pytest.raises(OperationalError):
        CeleryDoorbell(f"redis://127.0.0.1:{free_tcp_port}/0").ring("cpu")
