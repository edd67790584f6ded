"""Every request that asks for a change leaves one audit event, and no other request leaves one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response
from sqlalchemy import Engine, func, select, text

from app.accounts.access import OPEN_PATHS, is_audited
from app.accounts.bootstrap import ensure_admin_key
from app.audit.recording import Outcome, outcome_of
from app.db.models import AuditEvent, Job
from app.db.session import read_only, schema_transaction
from app.main import create_app
from app.settings import Settings
from tests.app.jobs import builders as given
from tests.support.example_bodies import example_body
from tests.support.route_table import Route, operation_of, routes_of
from tests.support.tenants import PLAIN_VALUES, Tenant, furnish

QUERIES: dict[str, dict[str, Any]] = {"create_file": {"params": {"filename": "a.txt"}, "content": b"text"}}
"""By operation: the rest of a request, where the OpenAPI document does not give it."""
BODIES: dict[str, Any] = {
    "register_model": {"name": "m", "ref": {"hub": "org/name", "revision": given.REVISION}},
    "change_project": {"name": "renamed"},
    "create_secret": {"name": "another", "value": "hf_abcdefgh"},
    "create_fine_tuning_job": {"fusion": given.spec_data()},
    "submit_job": given.spec_data(),
}
DONE = {
    "submit_job",
    "cancel_fine_tuning_job",
    "cancel_job",
    "change_job",
    "change_project",
    "clone_job",
    "create_api_key",
    "create_file",
    "create_fine_tuning_job",
    "create_project",
    "create_secret",
    "delete_api_key",
    "delete_file",
    "delete_secret",
    "pause_fine_tuning_job",
    "pause_job",
    "register_model",
    "resume_fine_tuning_job",
    "resume_job",
    "rotate_api_key",
}
"""What at least must succeed here, so that events of successes are looked at, too."""


@pytest.fixture
def app(settings: Settings, engine: Engine) -> Iterator[FastAPI]:
    app = create_app(settings)
    yield app
    app.state.engine.dispose()


@pytest.fixture
def operator(app: FastAPI, engine: Engine, settings: Settings) -> dict[str, str]:
    key = ensure_admin_key(engine, path=settings.data_dir / "admin.key", pepper=app.state.key_pepper)
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def tenant(app: FastAPI, engine: Engine, tmp_path: Path) -> Tenant:
    return furnish(app, engine, tmp_path, name="tenant")


def test_each_request_that_asks_for_a_change_leaves_exactly_one_event(
    app: FastAPI, engine: Engine, tenant: Tenant, operator: dict[str, str]
) -> None:
    document, done = app.openapi(), set[str]()
    me = TestClient(app).get("/v1/me", headers=operator).json()
    for route in changing_routes(app):
        ids = tenant.ids | fresh_ids(app, engine, tenant)
        answer, added = ask(
            app, engine, document, route, ids, operator | {"OpenAI-Project": tenant.project_id}
        )

        assert len(added) == 1, f"{route} left {len(added)} audit events: {answer.status_code} {answer.text}"
        event, expected = added[0], outcome_of(answer.status_code)
        assert (event.action, event.outcome) == (route.name, expected), f"{route}: {answer.text}"
        assert event.request_id == answer.headers["x-request-id"]
        assert event.address == "testclient"
        assert event.key_id == me["key_id"]
        assert event.project_id == tenant.project_id
        if route.parameters:
            assert event.object_id == ids[route.parameters[0]]
        if expected is Outcome.DONE:
            done.add(route.name)
            assert (event.status, event.code) == (None, None)
        else:
            assert (event.status, event.code) == (answer.status_code, answer.json()["code"])
    assert done >= DONE


def test_a_refusal_for_want_of_a_scope_leaves_one_too(app: FastAPI, engine: Engine, tenant: Tenant) -> None:
    document = app.openapi()
    body = {"name": "reader", "scopes": ["artifacts:read"]}
    made = TestClient(app).post("/v1/api_keys", json=body, headers=tenant.headers).json()
    for route in changing_routes(app):
        reader = {"Authorization": f"Bearer {made['secret']}"}
        answer, added = ask(app, engine, document, route, tenant.ids, reader)

        if answer.status_code == 403:
            (event,) = added
            assert (event.key_id, event.outcome, event.status) == (made["id"], "refused", 403)
            assert event.code == "scope_missing"
        assert len(added) == 1


def test_requests_that_read_and_requests_of_nobody_leave_none(
    app: FastAPI, engine: Engine, tenant: Tenant
) -> None:
    document = app.openapi()
    for route in routes_of(app):
        if route.path in OPEN_PATHS:
            continue
        headers = {} if is_audited(route.method, route.path) else tenant.headers
        _, added = ask(app, engine, document, route, tenant.ids, headers)
        assert added == [], f"{route} left an audit event"


def test_what_a_request_made_is_named(app: FastAPI, tenant: Tenant) -> None:
    client = TestClient(app, headers=tenant.headers)
    job = client.post("/v1/jobs", json=given.spec_data()).json()
    clone = client.post(f"/v1/jobs/{job['id']}/clone").json()

    cloned, submitted = client.get("/v1/audit_events?limit=2").json()["data"]

    assert (submitted["object_id"], submitted["created_id"]) == (job["id"], None)
    assert (cloned["object_id"], cloned["created_id"]) == (job["id"], clone["id"])


def test_without_its_event_a_change_is_not_made(app: FastAPI, engine: Engine, tenant: Tenant) -> None:
    refuse_events(engine)
    with read_only(engine) as session:
        before = session.scalar(select(func.count()).select_from(Job))
    client = TestClient(app, headers=tenant.headers, raise_server_exceptions=False)

    answer = client.post("/v1/jobs", json=given.spec_data())

    assert answer.status_code == 500
    with read_only(engine) as session:
        assert session.scalar(select(func.count()).select_from(Job)) == before


def test_events_are_listed_filtered_and_paged_for_admins(app: FastAPI, tenant: Tenant) -> None:
    client = TestClient(app, headers=tenant.headers)
    jobs = [client.post("/v1/jobs", json=given.spec_data()).json()["id"] for _ in range(3)]
    client.post(f"/v1/jobs/{jobs[0]}/cancel")
    client.delete("/v1/jobs/nothing-there")
    client.post("/v1/jobs/nothing-there/pause")

    def found(**filters: str) -> list[str]:
        page = client.get("/v1/audit_events", params=filters).json()
        return [event["object_id"] for event in page["data"]]

    assert found(action="submit_job", limit="3") == jobs[::-1]
    assert found(action="cancel_job") == [jobs[0]]
    assert found(object_id=jobs[0]) == [jobs[0], jobs[0]]
    assert found(outcome="refused", action="pause_job") == ["nothing-there"]
    assert found(key_id="key-nobodys") == []
    first = client.get("/v1/audit_events?limit=1&action=submit_job").json()
    second = client.get(f"/v1/audit_events?limit=1&action=submit_job&after={first['last_id']}").json()
    assert [page["data"][0]["object_id"] for page in (first, second)] == [jobs[2], jobs[1]]
    reader = client.post("/v1/api_keys", json={"name": "x", "scopes": ["read", "write"]}).json()
    as_reader = {"Authorization": f"Bearer {reader['secret']}"}
    assert client.get("/v1/audit_events", headers=as_reader).status_code == 403


def changing_routes(app: FastAPI) -> list[Route]:
    return [route for route in routes_of(app) if is_audited(route.method, route.path)]


def fresh_ids(app: FastAPI, engine: Engine, tenant: Tenant) -> dict[str, str]:
    """Things that a request can change, made beside the API."""
    client = TestClient(app, headers=tenant.headers)
    key = client.post("/v1/api_keys", json={"name": "fresh"}).json()
    file = client.post("/v1/files?filename=b.txt", content=b"fresh").json()
    job = given.submit(engine, tenant.project_id)
    return {"key_id": key["id"], "file_id": file["id"], "job_id": job.id}


def ask(
    app: FastAPI,
    engine: Engine,
    document: dict[str, Any],
    route: Route,
    ids: dict[str, str],
    headers: dict[str, str],
) -> tuple[Response, list[AuditEvent]]:
    """The answer, and the events that it added."""
    ids = PLAIN_VALUES | ids
    missing = [name for name in route.parameters if name not in ids]
    assert not missing, f"{route}: give tests/support/tenants.py an id for {missing}"
    before = {event.id for event in events(engine)}
    body = BODIES.get(route.name) or example_body(document, operation_of(document, route))
    rest = QUERIES.get(route.name) or {"json": body}
    client = TestClient(app, headers=headers, raise_server_exceptions=False)
    answer = client.request(route.method, route.url(ids), **rest)
    return answer, [event for event in events(engine) if event.id not in before]


def events(engine: Engine) -> list[AuditEvent]:
    with read_only(engine) as session:
        return list(session.scalars(select(AuditEvent)))


def refuse_events(engine: Engine) -> None:
    """Let the database take no more audit events."""
    with schema_transaction(engine) as connection:
        if connection.dialect.name == "sqlite":
            connection.execute(
                text(
                    "CREATE TRIGGER full BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'full'); END"
                )
            )
        else:
            connection.execute(text("ALTER TABLE audit_events ADD CONSTRAINT closed CHECK (false) NOT VALID"))
