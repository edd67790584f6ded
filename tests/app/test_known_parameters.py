"""A query parameter that no route declares is refused by every route of ours, new ones included."""

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.testclient import TestClient

from app.accounts.access import OPEN_PATHS
from app.known_parameters import LENIENT_TAGS, parameters_of
from tests.support.route_table import Route, operation_of, routes_of
from tests.support.tenants import PLAIN_VALUES


def guarded_routes(app: FastAPI) -> list[Route]:
    return [route for route in routes_of(app) if route.path not in OPEN_PATHS]


def is_lenient(app: FastAPI, route: Route) -> bool:
    documented = [other for other in routes_of(app) if other.path == route.path and other.method != "HEAD"]
    operations = [operation_of(app.openapi(), other) for other in documented]
    return any(LENIENT_TAGS.intersection(operation["tags"]) for operation in operations if operation)


def test_every_route_of_ours_names_what_it_does_not_know(client: TestClient) -> None:
    app = client.app
    assert isinstance(app, FastAPI)
    for route in guarded_routes(app):
        url = route.url(dict.fromkeys(route.parameters, "none") | PLAIN_VALUES)

        answer = client.request(route.method, url, params={"surprise": "1"})

        if is_lenient(app, route):
            assert answer.status_code != 422 or "surprise" not in answer.text, f"{route}: {answer.text}"
        elif route.method == "HEAD":
            assert answer.status_code == 422, str(route)
        else:
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (422, "query_unknown"), f"{route}: {answer.text}"
            assert [one["pointer"] for one in problem["errors"]] == ["query:surprise"]


def test_what_a_route_knows_is_what_its_document_promises(client: TestClient) -> None:
    app = client.app
    assert isinstance(app, FastAPI)
    known = {
        (method, context.path): parameters_of(context.original_route)
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute)
        for method in context.methods or ()
    }
    for route in guarded_routes(app):
        operation = operation_of(app.openapi(), route)
        if operation is None:
            continue
        promised = [
            f"{one['name']}[key]" if one.get("style") == "deepObject" else one["name"]
            for one in operation.get("parameters", ())
            if one["in"] == "query"
        ]
        assert known[route.method, route.path] == sorted(promised), str(route)


@pytest.mark.parametrize(
    ("path", "name", "way_out"),
    [
        ("/v1/jobs", "statsu", "did you mean 'status'?"),
        ("/v1/jobs", "metadata", "did you mean 'metadata[key]'?"),
        ("/v1/jobs/counts", "limit", "known here: created_after, created_before,"),
        ("/v1/me", "verbose", "this path takes none"),
    ],
)
def test_the_way_out_is_told(client: TestClient, path: str, name: str, way_out: str) -> None:
    problem = client.get(path, params={name: "1"}).json()

    assert f"there is no parameter {name!r}: " in problem["detail"]
    assert way_out in problem["errors"][0]["detail"]


def test_every_unknown_parameter_is_named(client: TestClient) -> None:
    problem = client.get("/v1/files", params={"pupose": "corpus", "limit": 3, "page": 2}).json()

    assert [one["pointer"] for one in problem["errors"]] == ["query:page", "query:pupose"]


def test_of_many_and_long_names_only_some_are_told(client: TestClient) -> None:
    many = client.get(f"/v1/me?{'&'.join(f'name{number}=1' for number in range(5000))}")
    long = client.get(f"/v1/me?{'[' * 60_000}=1")

    assert (many.status_code, long.status_code) == (422, 422)
    assert len(many.json()["errors"]) == 20
    assert len(long.content) < 2000
