"""Lists and counts of jobs over HTTP, on both databases."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select, update

from app.db.base import db_time
from app.db.models import Job, Project
from app.db.session import read_only, transaction
from app.jobs.lifecycle import JobStatus
from tests.app.jobs import builders

STATUSES = ("queued", "running", "succeeded", "failed")


def submit(client: TestClient, *, params: dict[str, Any] | None = None, **changes: Any) -> str:
    response = client.post("/v1/jobs", json=builders.spec_data(**changes), params=params)
    assert response.status_code == 201, response.text
    job_id: str = response.json()["id"]
    return job_id


def found(client: TestClient, **params: Any) -> list[str]:
    """Ids of the jobs that a list shows, in the order of their creation."""
    response = client.get("/v1/jobs", params={"order": "asc", "limit": 100, **params})
    assert response.status_code == 200, response.text
    return [job["id"] for job in response.json()["data"]]


def test_filters_narrow_a_list(client: TestClient, engine: Engine) -> None:
    plain = submit(client)
    paper = submit(client, name="on-paper", strategy={"preset": "paper"}, params={"tag": ["a", "b"]})
    tagged = submit(client, params={"tag": "a", "metadata[team]": "nlp", "metadata[run]": "7"})
    other = submit(client, params={"metadata[team]": "speech"})
    with client:
        client.post(f"/v1/jobs/{other}/cancel")
    step = builders.claim(engine)
    builders.complete(engine, step)
    assert step.job_id == plain

    assert found(client) == [plain, paper, tagged, other]
    assert found(client, status="cancelled") == [other]
    assert found(client, status=["cancelled", "running"]) == [plain, other]
    assert found(client, stage="extract") == [plain]
    assert found(client, stage=["extract", "prepare"]) == [plain, paper, tagged]
    assert found(client, strategy="paper") == [paper]
    assert found(client, tag="a") == [paper, tagged]
    assert found(client, tag=["a", "b"]) == [paper]
    assert found(client, **{"metadata[team]": "nlp"}) == [tagged]
    assert found(client, **{"metadata[team]": "nlp", "metadata[run]": "8"}) == []
    assert found(client, tag="a", **{"metadata[team]": "nlp", "metadata[run]": "7"}) == [tagged]
    assert found(client, q="PAPER") == [paper]
    assert found(client, q=paper[6:]) == [paper]
    assert found(client, q="100%_") == []
    assert found(client, tag="a", status="running") == []


def test_jobs_are_found_by_who_made_them_and_when(client: TestClient, engine: Engine) -> None:
    made = client.post("/v1/api_keys", json={"name": "other"}).json()
    early, late = submit(client), submit(client)
    by_other = client.post(
        "/v1/jobs", json=builders.spec_data(), headers={"Authorization": f"Bearer {made['secret']}"}
    ).json()
    with transaction(engine) as session:
        session.execute(update(Job).where(Job.id == early).values(created_at=db_time(-100)))
        moment = int(session.scalars(select(Job.created_at).where(Job.id == early)).one().timestamp())

    assert found(client, created_by=made["id"]) == [by_other["id"]]
    assert by_other["created_by"] == made["id"]
    assert found(client, created_before=moment + 1) == [early]
    assert found(client, created_before=moment) == []
    assert found(client, created_after=moment) == [late, by_other["id"]]
    assert found(client, created_after=moment - 1, created_before=moment + 1) == [early]


def test_names_are_found_whatever_their_case(client: TestClient) -> None:
    job_id = submit(client)
    client.patch(f"/v1/jobs/{job_id}", json={"name": "Große ÉTUDE 100%_x"})

    for text in ("GROSSE", "étude", "0%_X", "e étud"):
        assert found(client, q=text) == [job_id]
    assert found(client, q="0_x") == []


def test_counts_name_every_status(client: TestClient, engine: Engine) -> None:
    client.post(f"/v1/jobs/{submit(client, params={'tag': 'a'})}/cancel")
    for _ in range(2):
        submit(client)

    counts = client.get("/v1/jobs/counts").json()
    tagged = client.get("/v1/jobs/counts", params={"tag": "a"}).json()

    assert (counts["object"], counts["total"]) == ("job_counts", 3)
    assert counts["by_status"] == dict.fromkeys(JobStatus, 0) | {"queued": 2, "cancelled": 1}
    assert (tagged["total"], tagged["by_status"]["cancelled"]) == (1, 1)


@pytest.mark.parametrize(
    ("params", "pointer", "code"),
    [
        ({"state": "running"}, "query:state", "query_unknown"),
        ({"created_after": "yesterday"}, "query:created_after", "int_parsing"),
        ({"created_before": 10**15}, "query:created_before", "less_than_equal"),
        ({"stage": "thinking"}, "query:stage.0", "literal_error"),
        ({"tag": ""}, "query:tag", "string_too_short"),
        ({"tag": "x" * 65}, "query:tag", "string_too_long"),
        ({"metadata[k]": "x" * 513}, "query:metadata[k]", "string_too_long"),
        ({"metadata[]": "x"}, "query:metadata[]", "string_too_short"),
        ({"q": "a\x00"}, "query:q", "string_pattern_mismatch"),
        ({"after": "file-00000000000000000000000000"}, "query:after", "cursor_invalid"),
    ],
)
def test_a_filter_that_cannot_be_is_named(
    client: TestClient, params: dict[str, Any], pointer: str, code: str
) -> None:
    response = client.get("/v1/jobs", params=params)

    assert response.status_code == 422
    assert (response.json()["errors"][0]["pointer"], response.json()["errors"][0]["code"]) == (pointer, code)


def test_another_projects_labels_find_nothing(client: TestClient, engine: Engine) -> None:
    stranger = builders.submit(engine, builders.make_project(engine, "stranger"))

    assert found(client, q=stranger.id) == []
    assert client.get("/v1/jobs/counts").json()["total"] == 0


@pytest.fixture
def project_id(client: TestClient, engine: Engine) -> str:
    with read_only(engine) as session:
        return session.scalars(select(Project.id)).one()


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_pages_are_complete_and_disjoint_while_jobs_arrive(
    client: TestClient, engine: Engine, project_id: str, data: st.DataObject
) -> None:
    """Whoever walks a list either way sees every job that was there, once, in order, whatever is added."""
    add_jobs(engine, project_id, data.draw(st.lists(st.sampled_from(STATUSES), max_size=12), label="jobs"))
    wanted = data.draw(st.sets(st.sampled_from(STATUSES)), label="filter")
    order = data.draw(st.sampled_from(["asc", "desc"]), label="order")
    limit = data.draw(st.integers(1, 5), label="limit")
    params = {"order": order, "limit": limit, "status": sorted(wanted)}
    before = all_ids(engine, wanted, newest_first=order == "desc")

    # Between one page and the next; not for ever, or a walk towards the newest would not end.
    arriving = iter(data.draw(st.lists(st.lists(st.sampled_from(STATUSES)), max_size=6), label="arriving"))

    def arrive() -> None:
        add_jobs(engine, project_id, next(arriving, []))

    forth = list(walk(client, params, arrive))
    assert [job_id for job_id in forth if job_id in set(before)] == before
    assert forth == sorted(forth, reverse=order == "desc")
    assert len(set(forth)) == len(forth)

    back = list(walk_back(client, params, forth[-1], arrive)) if forth else []
    assert [job_id for job_id in back if job_id in set(forth)] == forth[-2::-1]
    assert len(set(back)) == len(back)


def walk(client: TestClient, params: dict[str, Any], arrive: Any) -> Iterator[str]:
    after: dict[str, str] = {}
    while True:
        page = client.get("/v1/jobs", params={**params, **after}).json()
        yield from (job["id"] for job in page["data"])
        if not page["has_more"]:
            return
        after = {"after": page["last_id"]}
        arrive()


def walk_back(client: TestClient, params: dict[str, Any], before: str, arrive: Any) -> Iterator[str]:
    """From an item towards the start; the items of a page stand in the order of the list."""
    while True:
        page = client.get("/v1/jobs", params={**params, "before": before}).json()
        yield from (job["id"] for job in reversed(page["data"]))
        if not page["has_more"]:
            return
        before = page["first_id"]
        arrive()


def add_jobs(engine: Engine, project_id: str, statuses: list[str]) -> None:
    same = {"project_id": project_id, "name": "x", "spec": {}, "spec_digest": "0" * 64, "desired": "run"}
    with transaction(engine) as session:
        session.add_all(Job(status=status, **same) for status in statuses)


def all_ids(engine: Engine, statuses: set[str], *, newest_first: bool) -> list[str]:
    with read_only(engine) as session:
        query = select(Job.id).order_by(Job.id.desc() if newest_first else Job.id)
        return list(session.scalars(query.where(Job.status.in_(statuses)) if statuses else query))
