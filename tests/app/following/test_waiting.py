"""Waiting for the next version of a job."""

import threading
import time
from collections.abc import Iterator

import httpx2
import pytest
from sqlalchemy import Engine

from app.db.session import transaction
from app.jobs import repository
from app.settings import Settings
from tests.app.following.streams import Service, quick_service
from tests.app.jobs import builders as given


@pytest.fixture
def quick(settings: Settings, engine: Engine) -> Iterator[Service]:
    with quick_service(settings, engine) as running:
        yield running


def test_the_answer_comes_with_the_next_version(quick: Service, engine: Engine) -> None:
    job = given.submit(engine, quick.project_id)
    url = f"{quick.url}/v1/jobs/{job.id}"
    answers: list[httpx2.Response] = []

    def ask() -> None:
        answers.append(
            httpx2.get(url, headers=quick.headers, params={"wait": 30, "since_version": 1}, timeout=40)
        )

    asking = threading.Thread(target=ask)
    asking.start()
    while quick.feed.num_followers == 0:
        time.sleep(0.01)
    with transaction(engine) as session:
        repository.add_event(session, repository.lock_job(session, job.id), "note", "news")
    asking.join(timeout=30)

    assert answers[0].json()["version"] == 2
    assert answers[0].headers["etag"] == '"2"'
    assert quick.feed.num_followers == 0


def test_a_version_that_is_there_and_an_end_are_not_waited_for(quick: Service, engine: Engine) -> None:
    job = given.submit(engine, quick.project_id)
    url = f"{quick.url}/v1/jobs/{job.id}"

    newer = httpx2.get(url, headers=quick.headers, params={"wait": 60, "since_version": 0}, timeout=20)
    in_vain = httpx2.get(url, headers=quick.headers, params={"wait": 0.1}, timeout=20)
    given.run_to_end(engine)
    ended = httpx2.get(url, headers=quick.headers, params={"wait": 60}, timeout=20)
    too_long = httpx2.get(url, headers=quick.headers, params={"wait": 3600}, timeout=20)

    assert [answer.json()["version"] for answer in (newer, in_vain)] == [1, 1]
    assert ended.json()["status"] == "succeeded"
    assert too_long.status_code == 422
