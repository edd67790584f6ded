"""Whoever sends can be stopped, overtaken and told of a cancel, and the end is told to who wants to know."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, update

from app.db.base import db_time
from app.db.models import Project, Publication, WebhookDelivery
from app.db.session import read_only, transaction
from app.publications import lease
from app.publications import publisher as module
from tests.app.publications.conftest import REPO, Publishing
from tests.support.writable_hub import WritableHub


@pytest.fixture(autouse=True)
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends looks all the time whether it should."""
    monkeypatch.setattr(lease, "_RENEW_SECONDS", 0.02)


def once(act: Callable[[], object]) -> Callable[[], None]:
    lock, done = threading.Lock(), []

    def acting() -> None:
        with lock:
            if not done:
                done.append(act())
        # Until it is noticed.
        time.sleep(0.1)

    return acting


def running(publishing: Publishing, **values: Any) -> None:
    with transaction(publishing.engine) as session:
        session.execute(update(Publication).values(**values))


def test_the_end_is_told_to_webhooks_and_history(publishing: Publishing, hub: WritableHub) -> None:
    wanted = {"url": "https://hooks.example.com/", "event_types": ["fusion.model.published"]}
    assert publishing.client.post("/v1/webhook_endpoints", json=wanted).status_code == 201

    done = publishing.publish(**REPO)

    with read_only(publishing.engine) as session:
        delivery = session.scalars(select(WebhookDelivery)).one()
    about = {"job_id": publishing.model.job_id, "publication_id": done["id"]}
    assert delivery.type == "fusion.model.published"
    assert delivery.data == {"id": publishing.model.model_id, "object": "model", **about}
    (event,) = publishing.events()
    assert event["type"] == "model_published"
    assert event["details"] == {
        "model_id": publishing.model.model_id,
        "publication_id": done["id"],
        "url": done["url"],
        "revision": done["revision"],
    }


def test_a_cancel_stops_what_is_under_way(publishing: Publishing, hub: WritableHub) -> None:
    publication_id = publishing.asked(**REPO)
    path = f"/v1/publications/{publication_id}/cancel"
    hub.on_upload = once(lambda: publishing.client.post(path))
    # So that something is still to be read when the first upload has begun.
    hub.part_bytes = 1_000_000

    publishing.keep_house()

    assert publishing.show(publication_id)["status"] == "cancelled"
    assert len(hub.repos["org/wise"].branches["main"]) == 1
    assert publishing.events() == []


def test_a_process_that_ends_leaves_it_to_the_next(publishing: Publishing, hub: WritableHub) -> None:
    publication_id = publishing.asked(**REPO)
    publisher = publishing.publisher()
    hub.on_upload = once(publisher.interrupt)
    hub.part_bytes = 1_000_000

    publisher.run_once()
    left = publishing.show(publication_id)
    publishing.keep_house()

    assert (left["status"], left["num_failures"]) == ("queued", 0)
    assert publishing.show(publication_id)["status"] == "succeeded"


def test_whoever_was_overtaken_has_no_say(publishing: Publishing, hub: WritableHub) -> None:
    publication_id = publishing.asked(**REPO)
    # What another one does when the lease of this one has ended.
    hub.on_upload = once(lambda: running(publishing, attempt=Publication.attempt + 1))
    hub.part_bytes = 1_000_000

    publishing.keep_house()

    overtaken = publishing.show(publication_id)
    assert overtaken["status"] == "running"
    assert len(hub.repos["org/wise"].branches["main"]) == 1


def test_one_that_was_lost_is_begun_again_once_its_lease_has_ended(
    publishing: Publishing, hub: WritableHub
) -> None:
    publication_id = publishing.asked(**REPO)
    running(publishing, status="running", attempt=1, leased_until=db_time(60))
    too_early = publishing.keep_house()
    running(publishing, leased_until=db_time(-1))

    num_tried = publishing.keep_house()

    done = publishing.show(publication_id)
    assert (too_early, num_tried) == (0, 1)
    assert (done["status"], done["num_failures"]) == ("succeeded", 1)


def test_one_that_nobody_comes_back_from_is_given_up(publishing: Publishing, hub: WritableHub) -> None:
    """Its files may be what ends who sends them."""
    publication_id = publishing.asked(**REPO)
    running(publishing, status="running", attempt=7, num_failures=6, leased_until=db_time(-1))

    publishing.keep_house(pauses=[0.0] * 7)

    failed = publishing.show(publication_id)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "publication_gave_out")
    assert hub.requests == []


def test_a_place_that_thinks_for_longer_than_the_lease_keeps_it(
    publishing: Publishing, hub: WritableHub
) -> None:
    publication_id = publishing.asked(**REPO)
    tried_meanwhile: list[int] = []

    def think() -> None:
        time.sleep(2.5)
        tried_meanwhile.append(publishing.keep_house())

    hub.before_commit = think
    publishing.publisher(lease_seconds=2.0).run_once()

    assert tried_meanwhile == [0]
    assert publishing.show(publication_id)["status"] == "succeeded"


def test_a_publisher_of_two_serves_those_for_whom_nothing_is_sent(
    publishing: Publishing, hub: WritableHub
) -> None:
    ids = [publishing.asked(**REPO, branch=branch) for branch in ("under-way", "waits")]
    with transaction(publishing.engine) as session:
        values = {"status": "running", "leased_until": db_time(60)}
        session.execute(update(Publication).where(Publication.id == ids[0]).values(**values))

    assert publishing.publisher(only_idle_projects=True).run_once() == 0
    assert publishing.publisher().run_once() == 1


def test_two_at_once_send_each_but_once(publishing: Publishing, hub: WritableHub) -> None:
    ids = [publishing.asked(**REPO, branch=f"branch-{number}") for number in range(4)]
    publishers = [publishing.publisher() for _ in range(2)]
    tried: list[int] = []
    threads = [threading.Thread(target=lambda one=one: tried.append(one.run_once())) for one in publishers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    publishing.make_due()
    publishing.keep_house()

    assert {publishing.show(one)["status"] for one in ids} == {"succeeded"}
    branches = hub.repos["org/wise"].branches
    assert {name: len(commits) for name, commits in branches.items() if name != "main"} == {
        f"branch-{number}": 2 for number in range(4)
    }


def test_a_mistake_of_a_library_is_not_made_for_ever(
    publishing: Publishing, hub: WritableHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("of a library")

    monkeypatch.setattr(module, "send_to_hub", broken)
    publication_id = publishing.asked(**REPO)

    nums_tried = [publishing.keep_house(pauses=[0.0, 0.0]) for _ in range(2)]

    failed = publishing.show(publication_id)
    assert nums_tried == [2, 0]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "internal_error")
    assert "KeyError" not in str(failed)


def test_the_project_for_which_nothing_is_sent_goes_first(
    publishing: Publishing, hub: WritableHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that publishes a hundred models does not hold up the others."""
    ids = [publishing.asked(**REPO, branch=branch) for branch in ("under-way", "waits-for-longest")]
    with transaction(publishing.engine) as session:
        project = Project(name="other")
        session.add(project)
        session.flush()
        first = session.scalars(select(Publication).where(Publication.id == ids[0])).one()
        first.status, first.leased_until = "running", db_time(60)
        other = Publication(
            project_id=project.id,
            model_id=first.model_id,
            job_id=first.job_id,
            artifact_id=first.artifact_id,
            destination={**first.destination, "secret": "none-of-theirs"},
            status="queued",
            num_bytes=1,
            due_at=db_time(-1),
        )
        session.add(other)

    publishing.keep_house()

    with read_only(publishing.engine) as session:
        finished = select(Publication.id).where(Publication.finished_at.is_not(None))
        assert list(session.scalars(finished.order_by(Publication.finished_at))) == [other.id, ids[1]]
