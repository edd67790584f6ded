"""Every error is a problem."""

from typing import Annotated

import pytest
from fastapi import FastAPI, Query
from fastapi.testclient import TestClient
from pydantic import BaseModel
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from app.error_handlers import install_error_handlers
from app.errors import API_ERRORS, ApiError, Conflict, FieldProblem, Unauthorized, Unprocessable
from app.hints import HINT_OF_CODE
from app.request_context import RequestContextMiddleware
from fusion.errors import CapacityError, CorpusInvalid
from fusion.plain_data import json_pointer


class Body(BaseModel):
    size: int


@pytest.fixture
def client() -> TestClient:
    app = FastAPI(
        middleware=[
            Middleware(RequestContextMiddleware),
            Middleware(RequestBodyLimitMiddleware, max_body_size=1000),
        ]
    )
    install_error_handlers(app)

    @app.post("/echo")
    def echo(body: Body, limit: Annotated[int, Query()] = 1) -> Body:
        return body

    @app.get("/raise/{name}")
    def raise_it(name: str) -> None:
        errors: dict[str, Exception] = {
            "conflict": Conflict("it is running", code="job_not_failed"),
            "unauthorized": Unauthorized("no key"),
            "field": Unprocessable("no", errors=[FieldProblem(pointer="/a", code="x", detail="no")]),
            "user": CorpusInvalid("line 3", code="json_broken", hint="mend it", pointer="/corpus"),
            "capacity": CapacityError("disk full", code="disk_full"),
            "mistake": KeyError("secret value"),
            "no_connection": PoolTimeoutError("QueuePool limit reached"),
        }
        raise errors[name]

    return TestClient(app, raise_server_exceptions=False)


def test_more_requests_than_connections_is_no_mistake_of_the_service(client: TestClient) -> None:
    response = client.get("/raise/no_connection")

    assert (response.status_code, response.json()["code"]) == (503, "overloaded")
    assert int(response.headers["Retry-After"]) > 0


def test_a_problem_has_both_shapes(client: TestClient) -> None:
    response = client.get("/raise/conflict", headers={"X-Request-Id": "abc"})

    assert response.status_code == 409
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "type": "urn:fusion:problem:job_not_failed",
        "title": "Conflict",
        "status": 409,
        "detail": "it is running",
        "instance": "/raise/conflict",
        "code": "job_not_failed",
        "hint": HINT_OF_CODE["job_not_failed"],
        "request_id": "abc",
        "errors": [],
        "error": {
            "message": "it is running",
            "type": "invalid_request_error",
            "code": "job_not_failed",
            "param": None,
        },
    }


def test_a_problem_without_a_way_out_says_so(client: TestClient) -> None:
    assert client.get("/raise/field").json()["hint"] is None


@pytest.mark.parametrize(
    ("name", "status", "header"),
    [("conflict", 409, "x-should-retry"), ("unauthorized", 401, "www-authenticate")],
)
def test_headers_of_a_status(client: TestClient, name: str, status: int, header: str) -> None:
    response = client.get(f"/raise/{name}")

    assert response.status_code == status
    assert header in response.headers


def test_an_error_of_the_engines_that_its_user_can_mend_is_422(client: TestClient) -> None:
    problem = client.get("/raise/user").json()

    assert (problem["status"], problem["code"]) == (422, "json_broken")
    assert problem["errors"] == [{"pointer": "/corpus", "code": "json_broken", "detail": "line 3"}]
    assert (problem["detail"], problem["hint"]) == ("line 3", "mend it")


@pytest.mark.parametrize("name", ["mistake", "capacity"])
def test_a_mistake_of_ours_tells_nothing_but_the_request_id(client: TestClient, name: str) -> None:
    response = client.get(f"/raise/{name}")

    assert response.status_code == 500
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert response.json()["error"]["type"] == "server_error"
    for secret in ("Traceback", "secret value", "disk full", "test_errors.py"):
        assert secret not in response.text


def test_wrong_fields_are_named_by_pointers(client: TestClient) -> None:
    problem = client.post("/echo", params={"limit": "x"}, json={"size": "big"}).json()

    assert problem["status"] == 422
    assert {error["pointer"] for error in problem["errors"]} == {"/size", "query:limit"}


@pytest.mark.parametrize(
    ("method", "url", "status"), [("GET", "/nowhere", 404), ("GET", "/echo", 405), ("DELETE", "/echo", 405)]
)
def test_the_frameworks_own_refusals(client: TestClient, method: str, url: str, status: int) -> None:
    response = client.request(method, url)

    assert response.status_code == status
    assert response.json()["status"] == status
    assert response.headers["content-type"] == "application/problem+json"


def test_broken_json_is_400(client: TestClient) -> None:
    response = client.post("/echo", content=b"{", headers={"content-type": "application/json"})

    assert (response.status_code, response.json()["code"]) == (400, "json_invalid")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_the_limit(client: TestClient, chunked: bool) -> None:
    body = b" " * 2000
    response = client.post(
        "/echo",
        content=iter([body[:900], body[900:]]) if chunked else body,
        headers={"content-type": "application/json"},
    )

    assert (response.status_code, response.json()["code"]) == (413, "content_too_large")
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("given", ["abc-1.2_3", "bad id\x01", "x" * 101, ""])
def test_request_ids_are_kept_only_when_harmless(client: TestClient, given: str) -> None:
    answered = client.get("/nowhere", headers={"X-Request-Id": given}).headers["x-request-id"]

    assert (answered == given) is (given == "abc-1.2_3")


def test_pointers_are_escaped() -> None:
    assert json_pointer(["a/b", 0, "c~d"]) == "/a~1b/0/c~0d"
    assert json_pointer([]) == ""


def test_every_error_class_is_in_the_table_with_its_own_status() -> None:
    assert set(API_ERRORS) == set(ApiError.__subclasses__())
    assert len({error.status for error in API_ERRORS}) == len(API_ERRORS)
