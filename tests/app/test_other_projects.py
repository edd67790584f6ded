"""Another project's things do not exist: every route of the app, asked for every id of somebody else's.

New routes take part by themselves. What they may need is an id of a new kind (`tests/support/tenants.py`) or
a body that cannot be guessed from the OpenAPI document (`BODIES`); the failures say so.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response
from sqlalchemy import Engine, select

from app.accounts.access import OPEN_PATHS, needed_scope
from app.accounts.scopes import Scope
from app.db.base import Base, new_id
from app.db.models import AuditEvent
from app.db.session import read_only
from app.main import create_app
from app.settings import Settings
from tests.support.example_bodies import example_body
from tests.support.route_table import Route, operation_of, routes_of
from tests.support.tenants import PLAIN_VALUES, Tenant, furnish

BODIES: dict[str, Any] = {}
"""By route, where a body cannot be made from the OpenAPI document."""
QUERIES: dict[str, dict[str, str]] = {"GET /v1/jobs/{job_id}/events/stream": {"follow": "false"}}
"""By route, where the answer to its owner would never end."""
WRITES_OF_ASKING = {"last_used_at"}
"""Columns that change because somebody asked, whatever the answer."""


@pytest.fixture
def app(settings: Settings, engine: Engine) -> Iterator[FastAPI]:
    app = create_app(settings)
    yield app
    app.state.engine.dispose()


@pytest.fixture
def theirs(app: FastAPI, engine: Engine, tmp_path: Path) -> Tenant:
    return furnish(app, engine, tmp_path, name="theirs")


@pytest.fixture
def ours(app: FastAPI, engine: Engine, tmp_path: Path, theirs: Tenant) -> Tenant:
    return furnish(app, engine, tmp_path, name="ours")


def test_an_id_of_another_project_is_like_one_that_was_never_given(
    app: FastAPI, engine: Engine, ours: Tenant, theirs: Tenant
) -> None:
    document, before = app.openapi(), rows(engine, theirs)
    for route in routes_with_ids(app):
        for foreign in route_ids(route):
            values = {**PLAIN_VALUES, **ours.ids, foreign: theirs.ids[foreign]}
            nobodys = {**values, foreign: new_id(theirs.ids[foreign].partition("-")[0])}

            answer = ask(app, document, route, values, ours)
            like_nobodys = ask(app, document, route, nobodys, ours)

            assert answer.status_code == expected_status(route), explain(route, foreign, answer)
            assert without(answer, values[foreign]) == without(like_nobodys, nobodys[foreign]), (
                f"{route} tells an id of another project ({foreign}) from one that does not exist"
            )
    assert rows(engine, theirs) == before


def test_every_id_of_the_matrix_exists_for_its_owner(app: FastAPI, ours: Tenant, theirs: Tenant) -> None:
    """Otherwise a 404 would prove nothing."""
    document, shown = app.openapi(), set[str]()
    for route in routes_with_ids(app):
        if route.method == "GET" and ask(app, document, route, PLAIN_VALUES | theirs.ids, theirs).is_success:
            shown |= set(route_ids(route))

    assert shown == {name for route in routes_with_ids(app) for name in route_ids(route)}


def test_no_list_holds_anything_of_another_project(app: FastAPI, ours: Tenant, theirs: Tenant) -> None:
    document = app.openapi()
    for route in routes_of(app):
        if route.method != "GET" or route.path in OPEN_PATHS or route.parameters or is_operators(route):
            continue
        asked = [{}, *filters_by_id(document, route, theirs)]
        for parameters in asked:
            answer = TestClient(app).get(route.path, params=parameters, headers=ours.headers)

            is_no_cursor = answer.status_code == 422 and answer.json()["code"] == "cursor_invalid"
            assert answer.status_code in (200, 404) or is_no_cursor, explain(route, str(parameters), answer)
            told = set(ids_in(answer)) - set(parameters.values())
            assert told.isdisjoint({theirs.project_id, *theirs.ids.values()}), f"{route} {parameters}"


def test_only_an_operator_acts_for_another_project(app: FastAPI, ours: Tenant, theirs: Tenant) -> None:
    document = app.openapi()
    strangers = Tenant(
        project_id=theirs.project_id,
        headers={**ours.headers, "OpenAI-Project": theirs.project_id},
        ids=theirs.ids,
    )
    for route in routes_of(app):
        if route.path in OPEN_PATHS:
            continue
        answer = ask(app, document, route, PLAIN_VALUES | theirs.ids, strangers)

        assert answer.status_code == 404, explain(route, "OpenAI-Project", answer)
        assert route.method == "HEAD" or answer.json()["code"] == "project_not_found"


def test_a_spec_that_names_something_of_another_project_is_refused(
    app: FastAPI, engine: Engine, ours: Tenant, theirs: Tenant
) -> None:
    before = rows(engine, theirs)
    client = TestClient(app, headers=ours.headers)
    spec = client.get(f"/v1/jobs/{ours.ids['job_id']}").json()["spec"]
    named = [
        {"corpus": {"files": [{"file_id": theirs.ids["file_id"]}]}},
        {"target": {"model": {"model_id": theirs.ids["model_id"]}}},
    ]
    for change in named:
        for path in ("/v1/jobs", "/v1/jobs/validate", "/v1/jobs/estimate"):
            answer = client.post(path, json=spec | change)

            assert (answer.status_code, answer.json()["code"]) in {
                (422, "file_not_found"),
                (422, "model_not_found"),
            }, answer.text
    assert rows(engine, theirs) == before


def test_an_idempotency_key_of_another_project_is_free(app: FastAPI, ours: Tenant, theirs: Tenant) -> None:
    client = TestClient(app)
    spec = client.get(f"/v1/jobs/{ours.ids['job_id']}", headers=ours.headers).json()["spec"]
    made = [
        client.post("/v1/jobs", json=spec, headers=tenant.headers | {"Idempotency-Key": "k"}).json()["id"]
        for tenant in (theirs, ours)
    ]

    assert made[0] != made[1]
    assert client.get(f"/v1/jobs/{made[0]}", headers=ours.headers).status_code == 404


def routes_with_ids(app: FastAPI) -> list[Route]:
    return [route for route in routes_of(app) if route.parameters and route.path not in OPEN_PATHS]


def route_ids(route: Route) -> list[str]:
    return [name for name in route.parameters if name not in PLAIN_VALUES]


def is_operators(route: Route) -> bool:
    return needed_scope(route.method, route.path) is Scope.OPERATOR


def expected_status(route: Route) -> int:
    """404, never 403; an operator's route refuses everybody else before it looks at the id."""
    return 403 if is_operators(route) else 404


def ask(
    app: FastAPI, document: dict[str, Any], route: Route, values: dict[str, str], tenant: Tenant
) -> Response:
    missing = [name for name in route.parameters if name not in values]
    assert not missing, (
        f"{route} takes {missing}, of which this test knows none: give every project one in "
        "tests/support/tenants.py, or name a value in its PLAIN_VALUES when it is no id"
    )
    body = BODIES.get(str(route)) or example_body(document, operation_of(document, route))
    client = TestClient(app, headers=tenant.headers, raise_server_exceptions=False)
    query = QUERIES.get(str(route))
    return client.request(route.method, route.url(values), params=query, json=body)


def explain(route: Route, foreign: str, answer: Response) -> str:
    hint = ""
    if answer.status_code in (400, 415, 422):
        hint = ": the body made from the OpenAPI document does not do; write one into BODIES"
    return f"{route} with {foreign} of another project answers {answer.status_code}{hint}: {answer.text}"


def without(answer: Response, asked_for: str) -> tuple[int, str]:
    """The answer without what differs between any two answers."""
    text = re.sub(r'"request_id":\s*"[^"]*"', "", answer.text)
    return answer.status_code, text.replace(asked_for, "ID")


def filters_by_id(document: dict[str, Any], route: Route, theirs: Tenant) -> list[dict[str, str]]:
    """One foreign id for every filter that takes ids, and for the cursors any."""
    names = [item["name"] for item in (operation_of(document, route) or {}).get("parameters", [])]
    by_id = [{name: theirs.ids[name]} for name in names if name in theirs.ids]
    cursors = [{name: id_} for name in names if name in ("after", "before") for id_ in theirs.ids.values()]
    return by_id + cursors


def ids_in(answer: Response) -> list[str]:
    return re.findall(r"[a-z]+-[0-9a-z]{26}", answer.text)


def rows(engine: Engine, theirs: Tenant) -> dict[str, list[str]]:
    """Everything in the database, but for what others than `theirs` were taken down for."""
    queries = {name: select(table) for name, table in Base.metadata.tables.items()}
    queries["audit_events"] = select(AuditEvent.__table__).where(AuditEvent.project_id == theirs.project_id)
    with read_only(engine) as session:
        return {
            name: sorted(
                json.dumps(
                    {key: str(value) for key, value in row._mapping.items() if key not in WRITES_OF_ASKING},
                    sort_keys=True,
                )
                for row in session.execute(query)
            )
            for name, query in queries.items()
        }
