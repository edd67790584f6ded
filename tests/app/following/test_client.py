"""The client on bad networks: however often it is cut, it tells every event once."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from app.client import FusionClient, GoneError, UnreachableError
from app.db.session import create_engine, in_transaction, transaction
from app.jobs import repository, service
from app.jobs.attempt_logs import append_log
from app.jobs.retention import drop_old_logs, drop_old_metrics
from app.settings import Settings
from tests.app.following.streams import Service, quick_service
from tests.app.jobs import builders as given
from tests.support.api_process import running_api
from tests.support.cutting_proxy import Cuts, cutting_proxy
from tests.support.services import free_port

NUM_CUTS, NUM_NOTES = 100, 420


@pytest.fixture
def quick(settings: Settings, engine: Engine) -> Iterator[Service]:
    with quick_service(settings, engine) as running:
        yield running


def client_of(url: str, headers: dict[str, str]) -> FusionClient:
    """One that pauses for a moment only."""
    client = FusionClient(url, headers["Authorization"].removeprefix("Bearer "))
    client._transport.pause = lambda seconds: time.sleep(min(seconds, 0.01))
    return client


def write_notes(engine: Engine, job_id: str, num: int) -> None:
    for _ in range(num // 10):
        with transaction(engine) as session:
            job = repository.lock_job(session, job_id)
            for _ in range(10):
                repository.add_event(session, job, "note", "n" * 200)


def test_a_hundred_cut_connections_cost_no_event(quick: Service, engine: Engine) -> None:
    job = given.submit(engine, quick.project_id)
    cuts = Cuts(after=(600, 3000), limit=NUM_CUTS)

    def work() -> None:
        write_notes(engine, job.id, NUM_NOTES)
        given.run_to_end(engine)

    with (
        cutting_proxy(int(quick.url.rpartition(":")[2]), cuts) as url,
        client_of(url, quick.headers) as client,
    ):
        working = threading.Thread(target=work)
        working.start()
        told = [event.seq for event in client.follow_history(job.id)]
        working.join()

    assert told == [event.seq for event in given.events(engine, job.id)]
    assert cuts.num_cut == NUM_CUTS


def test_a_job_of_long_ago_can_be_watched_and_its_logs_are_gone(quick: Service, engine: Engine) -> None:
    job = given.submit(engine, quick.project_id)
    step = given.claim(engine)
    fence = {"step_id": step.step_id, "attempt": step.attempt}
    in_transaction(engine, append_log, **fence, first_byte=0, data=b"before\n")
    in_transaction(engine, service.record_metrics, **fence, points=[(1, {"loss": 1.0})])
    given.fail(engine, step, given.USER_ERROR)
    drop_old_logs(engine, kept_seconds=0)
    drop_old_metrics(engine, kept_seconds=0)

    with client_of(quick.url, quick.headers) as client:
        (update,) = client.watch(job.id)
        for ask in (client.logs, client.metric_points, lambda job_id: list(client.follow_logs(job_id))):
            with pytest.raises(GoneError, match="no longer kept"):
                ask(job.id)
        in_transaction(engine, service.retry, project_id=quick.project_id, job_id=job.id)
        lines = client.follow_logs(job.id, poll_seconds=0.01)
        again = threading.Thread(target=run_again, args=(engine,))
        again.start()
        told = [line.text for line in lines]
        again.join()

    assert (update.job.status, update.metrics) == ("failed", [])
    assert told == ["... what was written before is no longer kept ...", "after"]


def run_again(engine: Engine) -> None:
    step = given.claim(engine)
    fence = {"step_id": step.step_id, "attempt": step.attempt}
    in_transaction(engine, append_log, **fence, first_byte=0, data=b"after\n")
    given.fail(engine, step, given.USER_ERROR)


def test_a_watch_and_logs_come_through_cut_connections(quick: Service, engine: Engine) -> None:
    job = given.submit(engine, quick.project_id)

    def work() -> None:
        step = given.claim(engine)
        for number in range(40):
            with transaction(engine) as session:
                fence = {"step_id": step.step_id, "attempt": step.attempt}
                append_log(session, **fence, first_byte=number * 100, data=f"line {number}\n".encode())
        given.complete(engine, step)
        given.run_to_end(engine)

    cuts = Cuts(after=(100, 6000), limit=20)
    with (
        cutting_proxy(int(quick.url.rpartition(":")[2]), cuts) as url,
        client_of(url, quick.headers) as client,
    ):
        working = threading.Thread(target=work)
        working.start()
        updates = list(client.watch(job.id, poll_seconds=0.05))
        lines = list(client.follow_logs(job.id, poll_seconds=0.05))
        working.join()

    told = [event.seq for update in updates for event in update.events]
    assert told == [event.seq for event in given.events(engine, job.id)]
    assert updates[-1].job.status == "succeeded"
    assert [line.text for line in lines if not line.text.startswith("...")] == [
        f"line {number}" for number in range(40)
    ]


def test_a_restart_of_the_service_costs_no_event(tmp_path: Path) -> None:
    port, told = free_port(), list[int]()
    with running_api(tmp_path, port=port) as api, client_of(api.url, api.headers) as client:
        engine = create_engine(api.settings.database_url)
        job = given.submit(engine, client.me().project.id)
        following = client.follow_history(job.id)
        told.append(next(following).seq)
    with client_of(f"http://127.0.0.1:{port}", api.headers) as nobody_there, pytest.raises(UnreachableError):
        list(nobody_there.follow(job.id, patience_seconds=0))
    client = client_of(f"http://127.0.0.1:{port}", api.headers)
    reading = threading.Thread(
        target=lambda: told.extend(event.seq for event in client.follow_history(job.id, after=told[-1]))
    )
    reading.start()
    write_notes(engine, job.id, 20)
    with running_api(tmp_path, port=port):
        write_notes(engine, job.id, 20)
        given.run_to_end(engine)
        reading.join(timeout=60)

    assert told == [event.seq for event in given.events(engine, job.id)]
    engine.dispose()
    client.close()


def test_a_waiting_client_hears_of_the_next_version(quick: Service, engine: Engine) -> None:
    job = given.submit(engine, quick.project_id)
    with client_of(quick.url, quick.headers) as client:
        threading.Timer(0.1, write_notes, (engine, job.id, 10)).start()
        found = client.get_job(job.id, wait_seconds=30, since_version=1)
        curves = client.metrics(job.id)

    assert found.version == 11
    assert curves.series == {}
