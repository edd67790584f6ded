"""The whole application."""

from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.db import migrate
from app.db.session import create_engine
from app.errors import API_ERRORS
from app.main import create_app
from app.settings import Settings


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    settings = Settings(data_dir=tmp_path, reconcile_seconds=0.05)
    migrate.upgrade(settings.database_url)
    return create_app(settings)


def test_the_document_describes_the_spec_and_the_problem(app: FastAPI) -> None:
    document = TestClient(app).get("/openapi.json").json()

    schemas = document["components"]["schemas"]
    submit = document["paths"]["/v1/jobs"]["post"]
    assert {"FusionSpec", "SourceSpec", "Problem", "JobOut"} <= set(schemas)
    assert submit["requestBody"]["content"]["application/yaml"]["schema"] == {
        "$ref": "#/components/schemas/FusionSpec"
    }
    refusal = document["components"]["responses"][submit["responses"]["422"]["$ref"].rpartition("/")[2]]
    assert "application/problem+json" in refusal["content"]


def test_every_reference_in_the_document_leads_somewhere(app: FastAPI) -> None:
    document = TestClient(app).get("/openapi.json").json()

    def references(node: object) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*(references(value) for value in node.values()))
        return set().union(*(references(item) for item in node)) if isinstance(node, list) else set()

    known = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "responses")
        for name in document["components"][kind]
    }
    assert references(document) <= known


def test_every_error_class_appears_in_the_document(app: FastAPI) -> None:
    document = TestClient(app).get("/openapi.json").json()

    documented = {
        int(status)
        for path in document["paths"].values()
        for operation in path.values()
        for status in operation["responses"]
    }
    # 405 is about a method that no route documents.
    assert {error.status for error in API_ERRORS} - {405} <= documented


def test_every_route_but_the_open_ones_needs_a_key(app: FastAPI) -> None:
    document = TestClient(app).get("/openapi.json").json()

    without_key = {
        f"{method} {path}"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "security" not in operation
    }
    assert without_key == {
        "get /livez",
        "get /readyz",
        "get /v1/schemas/fusion-spec",
        "get /v1/downloads",
    }


def test_the_housekeeper_runs_while_the_server_does(app: FastAPI) -> None:
    with TestClient(app) as client:
        assert client.get("/readyz").status_code == 200


def test_readiness_is_red_before_the_migrations(tmp_path: Path) -> None:
    response = TestClient(create_app(Settings(data_dir=tmp_path))).get("/readyz")

    assert response.status_code == 503
    assert [name for name, check in response.json()["checks"].items() if check["ok"]] == ["database"]


def test_without_a_database_the_process_lives_and_says_what_is_wrong(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'missing' / 'fusion.db'}"
    client = TestClient(create_app(Settings(data_dir=tmp_path, database_url=url)))
    key = f"fus_{'0' * 8}_{'0' * 43}"

    ready = client.get("/readyz")
    asked = client.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"})

    assert ready.status_code == 503
    assert ready.json()["checks"]["database"]["detail"] == "the database does not answer (OperationalError)"
    assert not any(check["ok"] for check in ready.json()["checks"].values())
    assert ready.json()["checks"]["work"]["detail"].startswith("unknown")
    assert (asked.status_code, asked.json()["code"]) == (503, "database_unavailable")
    assert asked.headers["retry-after"]
    assert client.get("/livez").is_success


def test_the_hint_of_a_problem_is_documented(app: FastAPI) -> None:
    document = TestClient(app).get("/openapi.json").json()

    assert "way out" in document["components"]["schemas"]["Problem"]["properties"]["hint"]["description"]


def test_every_refusal_names_the_way_out(client: TestClient) -> None:
    nobody = {"Authorization": ""}
    refusals = [
        client.get("/v1/jobs", headers=nobody),
        client.get("/v1/jobs", headers={"Authorization": "Bearer wrong"}),
        *(client.get(f"/v1/{kind}/x") for kind in ("jobs", "files", "models", "artifacts", "nothing")),
        client.delete("/v1/api_keys/x"),
        client.post("/v1/jobs", json={}),
        client.post("/v1/jobs", content="a: 1", headers={"Content-Type": "application/json"}),
        client.post("/v1/jobs", content="a: 1", headers={"Content-Type": "text/csv"}),
    ]

    assert [answer.json()["code"] for answer in refusals if not answer.json()["hint"]] == []
    assert "application/yaml" in refusals[-2].json()["hint"]
    assert "/v1/schemas/fusion-spec" in refusals[-3].json()["hint"]


def test_capabilities_need_a_key(app: FastAPI) -> None:
    assert TestClient(app).get("/v1/capabilities").status_code == 401


def test_another_database_is_refused() -> None:
    with pytest.raises(ValueError, match="mysql"):
        create_engine("mysql://localhost/x")


def test_text_that_the_database_cannot_hold_is_refused(client: TestClient) -> None:
    """SQLite would look for a NUL and find nothing; PostgreSQL has no such text."""
    asked = [
        client.get("/v1/models/%00"),
        client.delete("/v1/files/a%00b"),
        client.get("/v1/models?job_id=%00"),
    ]
    named = client.post("/v1/api_keys", json={"name": "a\0b"})

    assert {(answer.status_code, answer.json()["code"]) for answer in asked if answer.is_error} <= {
        (404, "model_not_found"),
        (404, "file_not_found"),
        (422, "text_not_allowed"),
    }
    assert (named.status_code, named.json()["errors"][0]["pointer"]) == (422, "/name")


def test_a_refused_method_says_which_ones_there_are(client: TestClient) -> None:
    asked = [client.put(path) for path in ("/v1/jobs", "/v1/jobs/counts", "/v1/jobs/job-0", "/livez")]

    assert [(answer.status_code, answer.headers["allow"]) for answer in asked] == [
        (405, "GET, POST"),
        (405, "GET"),
        (405, "DELETE, GET, PATCH"),
        (405, "GET"),
    ]


def test_a_request_with_thousands_of_mistakes_is_answered_briefly(client: TestClient) -> None:
    types = ["no such type"] * 50
    answer = client.post(
        "/v1/webhook_endpoints", json={"url": "https://a.example.com/", "event_types": types}
    )
    many = client.post("/v1/api_keys", json={"name": "k", "scopes": ["no such scope"] * 5_000})

    assert len(answer.json()["errors"]) == 50
    assert len(many.json()["errors"]) == 100
    assert len(many.content) < 100_000
