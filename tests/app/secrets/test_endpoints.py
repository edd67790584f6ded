"""`/v1/secrets`, and specs that name one, on both databases."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from app.db.models import IdempotencyKey, Secret
from app.db.session import read_only
from tests.app.jobs import builders as given

VALUE = "hf_abcdefgh12345678"


def store(client: TestClient, name: str = "hub-token") -> dict[str, Any]:
    answer = client.post("/v1/secrets", json={"name": name, "value": VALUE})
    assert answer.status_code == 201, answer.text
    secret: dict[str, Any] = answer.json()
    return secret


def naming(secret: str) -> dict[str, Any]:
    model = {"hub": "org/target", "revision": given.REVISION, "secret": secret}
    return given.spec_data(target={"model": model})


def test_a_secret_is_stored_listed_and_forgotten(client: TestClient) -> None:
    secret = store(client)
    url = f"/v1/secrets/{secret['id']}"

    shown, listed = client.get(url), client.get("/v1/secrets")
    deleted = client.delete(url)

    assert set(secret) == {"id", "object", "name", "created_at", "created_by"}
    assert shown.json() == secret
    assert listed.json()["data"] == [secret]
    assert deleted.json() == {"id": secret["id"], "object": "secret.deleted", "deleted": True}
    for method in ("GET", "DELETE"):
        answer = client.request(method, url)
        assert (answer.status_code, answer.json()["code"]) == (404, "secret_not_found")
    assert store(client)["id"] != secret["id"]


def test_the_database_holds_neither_the_value_nor_an_answer(client: TestClient, engine: Engine) -> None:
    body = {"name": "hub-token", "value": VALUE}
    client.post("/v1/secrets", json=body, headers={"Idempotency-Key": "k"})

    with read_only(engine) as session:
        sealed = session.scalars(select(Secret.sealed)).one()
        assert session.scalars(select(IdempotencyKey)).all() == []
    assert VALUE not in sealed


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "hub token", "value": VALUE}, "/name"),
        ({"name": "secret-" + "0" * 26, "value": VALUE}, "/name"),
        ({"name": "x", "value": "hf_1234"}, "/value"),
        ({"name": "x", "value": 'with"quotes'}, "/value"),
        ({"name": "x", "value": "with a space"}, "/value"),
        ({"name": "x", "value": VALUE + "\n"}, "/value"),
    ],
)
def test_a_secret_that_cannot_be_used_is_refused_without_being_shown(
    client: TestClient, body: dict[str, str], pointer: str
) -> None:
    answer = client.post("/v1/secrets", json=body)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert body["value"] not in answer.text


def test_a_name_belongs_to_one_secret(client: TestClient) -> None:
    store(client)

    answer = client.post("/v1/secrets", json={"name": "hub-token", "value": VALUE})

    assert (answer.status_code, answer.json()["code"]) == (409, "secret_exists")


def test_specs_name_a_secret_by_name_or_id(client: TestClient) -> None:
    secret = store(client)

    for reference in (secret["name"], secret["id"]):
        job = client.post("/v1/jobs", json=naming(reference))
        assert job.status_code == 201, job.text
        assert job.json()["spec"]["target"]["model"]["secret"] == reference


def test_a_secret_that_nobody_stored_is_refused_at_submission(client: TestClient) -> None:
    reference = {"hub": "org/name", "revision": given.REVISION, "secret": "other"}

    job = client.post("/v1/jobs", json=naming("other"))
    model = client.post("/v1/models", json={"name": "m", "ref": reference})

    for answer, pointer in ((job, "/target/model/secret"), (model, "/ref/secret")):
        assert (answer.status_code, answer.json()["code"]) == (422, "secret_not_found")
        assert answer.json()["errors"][0]["pointer"] == pointer


def test_a_registered_model_keeps_the_name_of_its_secret(client: TestClient) -> None:
    store(client)
    reference = {"hub": "org/name", "revision": given.REVISION, "secret": "hub-token"}

    model = client.post("/v1/models", json={"name": "m", "ref": reference})

    assert model.json()["ref"]["secret"] == "hub-token"


def test_a_secret_opens_nothing_but_a_hub(client: TestClient) -> None:
    spec = given.spec_data(target={"model": {"path": "/models/x", "secret": "hub-token"}})

    answer = client.post("/v1/jobs", json=spec)

    assert answer.status_code == 422
    assert "secret belongs to hub" in answer.json()["detail"]
