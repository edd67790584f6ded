"""Events of a job become visible in the order of their numbers, whoever writes them at the same time."""

import threading

from sqlalchemy import Engine, select

from app.db.models import Event
from app.db.session import in_transaction, read_only, transaction
from app.jobs import repository
from tests.app.jobs import builders as given

NUM_WRITERS, NUM_EVENTS = 4, 12


def test_who_has_seen_a_number_never_finds_a_smaller_one_later(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    first = len(given.events(engine, job.id))
    done = threading.Event()
    looks: list[list[int]] = []

    def write(writer: int) -> None:
        for number in range(NUM_EVENTS):
            with transaction(engine) as session:
                # Numbers are given out under the lock of the job's row, and what else a transaction does
                # afterwards takes longer in one than in the other.
                repository.add_event(
                    session, repository.lock_job(session, job.id), "note", f"{writer}.{number}"
                )
                session.flush()
                done.wait(0.002 * writer)

    def look() -> None:
        while not done.is_set():
            with read_only(engine) as session:
                looks.append(list(session.scalars(select(Event.seq).where(Event.job_id == job.id))))

    reader = threading.Thread(target=look)
    writers = [threading.Thread(target=write, args=(number,)) for number in range(NUM_WRITERS)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()

    whole = list(range(1, first + NUM_WRITERS * NUM_EVENTS + 1))
    assert sorted(event.seq for event in given.events(engine, job.id)) == whole
    assert len({len(seen) for seen in looks}) > 1, "the reader never looked in between"
    for seen in looks:
        assert sorted(seen) == list(range(1, len(seen) + 1))


def test_an_event_without_the_lock_waits_for_who_has_it(engine: Engine) -> None:
    """`add_event` takes the lock by itself: callers that did not lock the job cannot break the order."""
    job = given.submit_in_new_project(engine)
    order: list[str] = []
    began = threading.Event()

    def add_second() -> None:
        began.set()
        in_transaction(engine, repository.add_event, job, "note", "second")
        order.append("second")

    thread = threading.Thread(target=add_second)
    with transaction(engine) as session:
        repository.add_event(session, job, "note", "first")
        session.flush()
        thread.start()
        began.wait()
        thread.join(timeout=0.2)
        order.append("first")
    thread.join()

    assert order == ["first", "second"]
    assert [event.message for event in given.events(engine, job.id)][-2:] == ["first", "second"]
