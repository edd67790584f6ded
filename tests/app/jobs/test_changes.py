"""Names, labels and priorities of jobs over HTTP, on both databases."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from tests.app.jobs import builders as given


@pytest.fixture
def url(client: TestClient) -> str:
    params: dict[str, Any] = {"tag": ["b", "a", "b"], "metadata[team]": "nlp", "priority": 2}
    response = client.post("/v1/jobs", json=given.spec_data(), params=params)
    assert response.status_code == 201, response.text
    return f"/v1/jobs/{response.json()['id']}"


def test_labels_are_given_with_a_submission(client: TestClient, url: str) -> None:
    job = client.get(url).json()

    assert (job["tags"], job["metadata"], job["priority"]) == (["a", "b"], {"team": "nlp"}, 2)


def test_each_change_leaves_an_event(client: TestClient, engine: Engine, url: str) -> None:
    change = {
        "name": "  new name ",
        "tags": ["b", "c"],
        "metadata": {"team": None, "run": "7", "note": ""},
        "priority": -1,
    }

    changed = client.patch(url, json=change)

    job = changed.json()
    assert changed.status_code == 200
    assert (job["name"], job["tags"], job["priority"]) == ("new name", ["b", "c"], -1)
    assert job["metadata"] == {"note": "", "run": "7"}
    assert job == client.get(url).json()
    events = {event.type: event.details for event in given.events(engine, job["id"])}
    assert events["job_renamed"] == {"from": "small", "to": "new name"}
    assert events["tags_changed"] == {"added": ["c"], "removed": ["a"]}
    assert events["metadata_changed"] == {"set": {"note": "", "run": "7"}, "removed": ["team"]}
    assert events["priority_changed"] == {"from": 2, "to": -1}


def test_what_is_so_already_changes_nothing(client: TestClient, url: str) -> None:
    before = client.get(url).json()
    same = {"name": "small", "tags": ["b", "a"], "metadata": {"team": "nlp", "gone": None}, "priority": 2}

    assert client.patch(url, json=same).json() == before


def test_all_pairs_are_removed_with_null(client: TestClient, url: str) -> None:
    assert client.patch(url, json={"metadata": None}).json()["metadata"] == {}
    assert client.patch(url, json={"tags": []}).json()["tags"] == []


def test_a_finished_job_keeps_its_priority_and_takes_labels(
    client: TestClient, engine: Engine, url: str
) -> None:
    given.run_to_end(engine)

    both = client.patch(url, json={"name": "new", "priority": 5})
    labels = client.patch(url, json={"name": "new", "tags": ["done"]})

    assert (both.status_code, both.json()["code"]) == (409, "job_finished")
    assert both.headers["x-should-retry"] == "false"
    assert (labels.status_code, labels.json()["name"], labels.json()["tags"]) == (200, "new", ["done"])


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({}, ""),
        ({"status": "succeeded"}, "/status"),
        ({"spec": {}}, "/spec"),
        ({"name": ""}, "/name"),
        ({"name": " "}, "/name"),
        ({"name": None}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"name": "a\nb"}, "/name"),
        ({"tags": "a"}, "/tags"),
        ({"tags": ["a", ""]}, "/tags/1"),
        ({"tags": ["x" * 65]}, "/tags/0"),
        ({"tags": [f"t{number}" for number in range(17)]}, "/tags"),
        ({"metadata": {"k": 1}}, "/metadata/k"),
        ({"metadata": {"k": "x" * 513}}, "/metadata/k"),
        ({"metadata": {"k": "a\x00"}}, "/metadata/k"),
        ({"metadata": {f"k{number}": "v" for number in range(16)}}, "/metadata"),
        ({"priority": 11}, "/priority"),
        ({"priority": None}, "/priority"),
    ],
)
def test_a_change_that_cannot_be_is_named(
    client: TestClient, url: str, change: dict[str, Any], pointer: str
) -> None:
    before = client.get(url).json()

    refused = client.patch(url, json=change)

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"].removesuffix("/[key]") == pointer
    assert client.get(url).json() == before


def test_sixteen_pairs_are_allowed(client: TestClient, url: str) -> None:
    pairs = {f"k{number}": "v" * 512 for number in range(15)}

    assert len(client.patch(url, json={"metadata": pairs}).json()["metadata"]) == 16


def test_nobody_overwrites_a_change_unseen(client: TestClient, url: str) -> None:
    seen = client.get(url)
    tag = seen.headers["etag"]
    assert tag == f'"{seen.json()["version"]}"'

    first = client.patch(url, json={"name": "first"}, headers={"If-Match": tag})
    second = client.patch(url, json={"name": "second"}, headers={"If-Match": tag})
    third = client.patch(url, json={"name": "third"}, headers={"If-Match": f'"x", {first.headers["etag"]}'})
    any_version = client.patch(url, json={"name": "fourth"}, headers={"If-Match": "*"})

    assert (first.status_code, third.status_code, any_version.status_code) == (200, 200, 200)
    assert (second.status_code, second.json()["code"]) == (412, "version_conflict")
    assert second.json()["hint"]
    assert any_version.json()["name"] == "fourth"


@pytest.mark.parametrize("action", ["cancel", "pause", "resume"])
def test_an_action_may_expect_a_version_too(client: TestClient, url: str, action: str) -> None:
    tag = client.get(url).headers["etag"]
    client.patch(url, json={"name": "changed"})

    refused = client.post(f"{url}/{action}", headers={"If-Match": tag})
    done = client.post(f"{url}/{action}", headers={"If-Match": client.get(url).headers["etag"]})

    assert refused.status_code == 412
    assert done.is_success
    assert done.headers["etag"] == client.get(url).headers["etag"]


def test_a_version_that_is_none_is_refused(client: TestClient, url: str) -> None:
    refused = client.patch(url, json={"name": "x"}, headers={"If-Match": "17"})

    assert (refused.status_code, refused.json()["code"]) == (400, "if_match_invalid")


def test_a_clone_takes_labels_over_unless_others_are_given(client: TestClient, url: str) -> None:
    same = client.post(f"{url}/clone").json()
    grandchild = client.post(f"/v1/jobs/{same['id']}/clone", params={"tag": "x", "metadata[a]": "b"}).json()

    assert (same["tags"], same["metadata"], same["priority"]) == (["a", "b"], {"team": "nlp"}, 2)
    assert (grandchild["tags"], grandchild["metadata"]) == (["x"], {"a": "b"})
    root = url.rpartition("/")[2]
    assert (same["cloned_from_id"], same["root_job_id"]) == (root, root)
    assert (grandchild["cloned_from_id"], grandchild["root_job_id"]) == (same["id"], root)
    assert client.get(url).json()["root_job_id"] is None
