"""`/v1/projects`, `/v1/me`, and acting for another project, on both databases."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, func, select

from app.accounts.projects import KEPT_TABLES
from app.db.base import Base
from app.db.models import Event, Job
from app.db.session import in_transaction, read_only
from app.jobs import service as jobs
from app.settings import Settings
from tests.app.jobs import builders as given


def make(client: TestClient, name: str = "lab") -> dict[str, Any]:
    answer = client.post("/v1/projects", json={"name": name})
    assert answer.status_code == 201, answer.text
    project: dict[str, Any] = answer.json()
    return project


def acting_for(project: dict[str, Any]) -> dict[str, str]:
    return {"OpenAI-Project": project["id"]}


def key_of(client: TestClient, project: dict[str, Any], *scopes: str) -> dict[str, str]:
    """Headers of a new key of the project, which an operator makes."""
    body = {"name": "first", "scopes": list(scopes) or ["admin"]}
    answer = client.post("/v1/api_keys", json=body, headers=acting_for(project))
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['secret']}"}


def test_a_project_is_made_found_renamed_and_deleted(client: TestClient) -> None:
    project = make(client)
    url = f"/v1/projects/{project['id']}"

    renamed = client.patch(url, json={"name": "garage"})
    listed = client.get("/v1/projects").json()["data"]
    deleted = client.delete(url)

    assert project["object"] == "project"
    assert renamed.json() == {**project, "name": "garage"}
    assert [item["name"] for item in listed] == ["garage", "default"]
    assert deleted.json() == {"id": project["id"], "object": "project.deleted", "deleted": True}
    assert client.get(url).status_code == 404
    assert client.delete(url).status_code == 404
    assert [item["name"] for item in client.get("/v1/projects").json()["data"]] == ["default"]


def test_names_are_unique_and_free_again_after_a_deletion(client: TestClient) -> None:
    first = make(client)
    taken = client.post("/v1/projects", json={"name": "lab"})
    renamed = client.patch(f"/v1/projects/{make(client, 'other')['id']}", json={"name": "lab"})
    client.delete(f"/v1/projects/{first['id']}")

    for answer in (taken, renamed):
        assert (answer.status_code, answer.json()["code"]) == (409, "project_exists")
    assert make(client)["id"] != first["id"]


def test_an_operator_makes_the_first_key_and_the_project_lives_on_its_own(client: TestClient) -> None:
    project = make(client)
    theirs = key_of(client, project)

    me = client.get("/v1/me", headers=theirs).json()
    job = client.post("/v1/jobs", json=given.spec_data(), headers=theirs).json()

    assert (me["project"], me["scopes"]) == (project, ["admin"])
    assert client.get(f"/v1/jobs/{job['id']}").status_code == 404
    assert client.get(f"/v1/jobs/{job['id']}", headers=acting_for(project)).status_code == 200
    assert [item["id"] for item in client.get("/v1/projects", headers=theirs).json()["data"]] == [
        project["id"]
    ]


def test_an_admin_changes_no_project_not_even_their_own(client: TestClient) -> None:
    project = make(client)
    theirs = key_of(client, project)

    for method, path in (
        ("POST", "/v1/projects"),
        ("PATCH", f"/v1/projects/{project['id']}"),
        ("DELETE", f"/v1/projects/{project['id']}"),
    ):
        answer = client.request(method, path, json={"name": "x"}, headers=theirs)
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")


def test_an_operator_needs_the_scopes_of_what_they_do_for_another_project(client: TestClient) -> None:
    project = make(client)
    body = {"name": "op", "scopes": ["operator"]}
    operator = {"Authorization": f"Bearer {client.post('/v1/api_keys', json=body).json()['secret']}"}

    answer = client.get("/v1/jobs", headers=operator | acting_for(project))

    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")


def test_a_deleted_project_keeps_its_history_and_nothing_else(
    client: TestClient, engine: Engine, settings: Settings
) -> None:
    project = make(client)
    theirs = key_of(client, project)
    client.post("/v1/files?filename=a.txt", content=b"text", headers=theirs)
    reference = {"name": "m", "ref": {"hub": "org/name", "revision": given.REVISION}}
    client.post("/v1/models", json=reference, headers=theirs)
    headers = theirs | {"Idempotency-Key": "k"}
    job = client.post("/v1/jobs", json=given.spec_data(), headers=headers).json()
    url = f"/v1/projects/{project['id']}"

    with_jobs = client.delete(url)
    given.run_to_end(engine)
    deleted = client.delete(url)

    assert (with_jobs.status_code, with_jobs.json()["code"]) == (409, "project_has_jobs")
    assert deleted.status_code == 200
    answer = client.get("/v1/jobs", headers=theirs)
    assert (answer.status_code, answer.json()["code"]) == (401, "api_key_revoked")
    assert client.get("/v1/jobs", headers=acting_for(project)).status_code == 404
    with read_only(engine) as session:
        assert session.get_one(Job, job["id"]).status == "succeeded"
        assert session.scalars(select(Event).where(Event.job_id == job["id"])).first() is not None
        for table in Base.metadata.sorted_tables:
            if "project_id" in table.columns and table.name not in KEPT_TABLES:
                of_project = table.columns.project_id == project["id"]
                query = select(func.count()).select_from(table).where(of_project)
                assert session.scalar(query) == 0, table.name


def test_nobody_deletes_the_project_of_their_own_key(client: TestClient) -> None:
    mine = client.get("/v1/me").json()["project"]["id"]

    answer = client.delete(f"/v1/projects/{mine}")

    assert (answer.status_code, answer.json()["code"]) == (409, "project_in_use")


@pytest.mark.parametrize("name", ["", "x" * 101, None])
def test_a_name_that_is_none_is_refused(client: TestClient, name: str | None) -> None:
    answer = client.post("/v1/projects", json={"name": name})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/name"


def test_a_cancelled_job_does_not_hold_its_project(client: TestClient, engine: Engine) -> None:
    project = make(client)
    job = given.submit(engine, project["id"])
    in_transaction(engine, jobs.request_cancel, project_id=project["id"], job_id=job.id)

    assert client.delete(f"/v1/projects/{project['id']}").status_code == 200
