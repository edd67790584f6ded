"""What is wrong with one job ends its streams and nobody else's, and no stream waits for what cannot come."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from sqlalchemy import Engine, delete, update

from app.client.event_stream import ServerEvent, read_events
from app.db.base import db_time
from app.db.models import Event, Job
from app.db.session import transaction
from app.following import looking
from app.following.frames import event_frame
from app.jobs import repository
from app.settings import Settings
from tests.app.following.streams import Service, numbered, quick_service
from tests.app.following.test_stream import wait_for
from tests.app.jobs import builders as given


@pytest.fixture
def quick(settings: Settings, engine: Engine) -> Iterator[Service]:
    with quick_service(settings, engine) as running:
        yield running


def note(engine: Engine, job_id: str, *, message: str = "seen", skipping: int = 0) -> None:
    """An event, after some that are missing."""
    with transaction(engine) as session:
        later = Job.last_event_seq + skipping
        session.execute(update(Job).where(Job.id == job_id).values(last_event_seq=later))
        repository.add_event(session, repository.lock_job(session, job_id), "note", message)


def purge_at_once(engine: Engine, job_id: str) -> None:
    """In one moment: it fails, is purged, and its history is removed."""
    with transaction(engine) as session:
        ended = {"status": "failed", "finished_at": db_time(), "last_event_seq": Job.last_event_seq + 5}
        session.execute(update(Job).where(Job.id == job_id).values(**ended))
        removed = {"deleted_at": db_time(), "purged_at": db_time()}
        session.execute(update(Job).where(Job.id == job_id).values(**removed))
        session.execute(delete(Event).where(Event.job_id == job_id))


class Following:
    """Streams that are read in threads of their own, up to their ends."""

    def __init__(self, quick: Service, *job_ids: str) -> None:
        self.told: dict[str, list[ServerEvent]] = {job_id: [] for job_id in job_ids}
        self.threads = {
            job_id: threading.Thread(target=self._read, args=(quick, job_id)) for job_id in job_ids
        }
        before = quick.feed.num_followers
        for thread in self.threads.values():
            thread.start()
        wait_for(lambda: quick.feed.num_followers == before + len(job_ids))
        wait_for(lambda: all(self.told.values()))

    def _read(self, quick: Service, job_id: str) -> None:
        with quick.stream(job_id) as answer:
            for event in read_events(answer.iter_lines()):
                if event is not None:
                    self.told[job_id].append(event)

    def wait_for_end(self, job_id: str) -> list[ServerEvent]:
        self.threads[job_id].join(timeout=20)
        assert not self.threads[job_id].is_alive()
        return self.told[job_id]


def test_a_follower_of_a_purged_job_is_told_the_end(quick: Service, engine: Engine) -> None:
    job = given.submit(engine, quick.project_id)
    following = Following(quick, job.id)

    purge_at_once(engine, job.id)
    last = following.wait_for_end(job.id)[-1]
    with quick.stream(job.id, last_event_id=last.data["seq"]) as again:
        again.read()

    assert (last.type, last.data["status"], last.data["deleted"]) == ("job.end", "failed", True)
    assert (again.status_code, again.json()["code"]) == (404, "job_not_found")


def test_a_job_that_is_nowhere_to_be_found_ends_its_streams(
    quick: Service, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = given.submit(engine, quick.project_id)
    following = Following(quick, job.id)

    monkeypatch.setattr(looking, "read_marks", lambda *_: [])
    last = following.wait_for_end(job.id)[-1]

    assert (last.type, last.data["status"], last.data["deleted"]) == ("job.end", "queued", True)


@pytest.mark.parametrize("purge", [True, False])
def test_who_waits_for_a_change_is_answered_when_none_can_come(
    quick: Service, engine: Engine, monkeypatch: pytest.MonkeyPatch, purge: bool
) -> None:
    job = given.submit(engine, quick.project_id)
    answers: list[httpx2.Response] = []

    def ask() -> None:
        url = f"{quick.url}/v1/jobs/{job.id}?wait=60"
        answers.append(httpx2.get(url, headers=quick.headers, timeout=70))

    asking = threading.Thread(target=ask)
    asking.start()
    wait_for(lambda: quick.feed.num_followers == 1)
    if purge:
        purge_at_once(engine, job.id)
    else:
        monkeypatch.setattr(looking, "read_marks", lambda *_: [])
    asking.join(timeout=20)

    assert [answer.status_code for answer in answers] == [404 if purge else 200]


def hole(engine: Engine, job_id: str, _: pytest.MonkeyPatch) -> None:
    note(engine, job_id, skipping=2)


def unreadable_event(engine: Engine, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(event: Event) -> Any:
        if event.message == "unreadable":
            raise ValueError(f"{event.id} is no event")
        return event_frame(event)

    monkeypatch.setattr(looking, "event_frame", encode)
    note(engine, job_id, message="unreadable")


@pytest.mark.parametrize("spoil", [hole, unreadable_event])
def test_trouble_with_one_job_is_trouble_for_its_followers_only(
    quick: Service,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Engine, str, pytest.MonkeyPatch], None],
) -> None:
    first, spoilt, last = (given.submit(engine, quick.project_id).id for _ in range(3))
    following = Following(quick, first, spoilt, last)

    spoil(engine, spoilt, monkeypatch)
    told = following.wait_for_end(spoilt)
    for job_id in (first, last):
        note(engine, job_id)
        wait_for(lambda job_id=job_id: numbered(following.told[job_id]) == [1, 2])  # type: ignore[misc]

    # Who comes back is told the rest, and then whatever comes.
    again = Following(quick, spoilt)
    note(engine, spoilt)
    whole = [event.seq for event in given.events(engine, spoilt)]
    wait_for(lambda: numbered(again.told[spoilt]) == whole)
    for job_id in (first, spoilt, last):
        purge_at_once(engine, job_id)
    ends = [one.wait_for_end(job_id)[-1].type for one, job_id in ((following, first), (following, last))]
    assert ends == ["job.end", "job.end"]
    assert again.wait_for_end(spoilt)[-1].type == "job.end"
    assert [event.type for event in told] == ["job_submitted"]
    logged = [record for record in caplog.records if "following_failed" in str(record.msg)]
    assert [(spoilt in str(record.msg), bool(record.exc_info)) for record in logged] == [(True, True)]
