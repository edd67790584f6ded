"""Who may do what: keys over HTTP, against a real database."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from app.accounts.scopes import Scope
from app.db.models import ApiKey
from app.db.session import read_only, transaction
from tests.support.api import Api, make_api


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


def _create(api: Api, **body: Any) -> dict[str, Any]:
    answer = api.client.post("/v1/api_keys", json={"name": "ci", **body}, headers=api.headers)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic abc"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Bearer fus_abcdefgh_" + "a" * 43},
    ],
)
def test_without_a_working_key_everything_is_401(api: Api, headers: dict[str, str]) -> None:
    for path in ("/v1/api_keys", "/v1/files", "/v1/models", "/v1/artifacts", "/v1/artifacts/art-1/content"):
        answer = api.client.get(path, headers=headers)

        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["error"]["type"] == "authentication_error"


def test_a_key_with_a_changed_character_is_refused(api: Api) -> None:
    text = api.headers["Authorization"]
    changed = text[:-2] + ("b" if text[-2] == "a" else "a") + text[-1]

    assert api.client.get("/v1/files", headers={"Authorization": changed}).status_code == 401


def test_a_new_key_works_and_is_shown_once(api: Api) -> None:
    created = _create(api)

    headers = {"Authorization": f"Bearer {created['secret']}"}
    assert created["secret"].startswith(created["prefix"])
    assert api.client.get("/v1/files", headers=headers).status_code == 200
    listed = api.client.get("/v1/api_keys", headers=api.headers)
    assert created["secret"] not in listed.text
    assert listed.json()["first_id"] == created["id"]
    assert created["scopes"] == ["read", "write"]


def test_the_secret_is_not_in_the_database(api: Api) -> None:
    created = _create(api)

    raw = (api.settings.data_dir / "fusion.db").read_bytes()
    assert created["secret"].split("_", 2)[2].encode() not in raw
    assert created["prefix"].encode() in raw


def test_scopes_are_enforced_by_method(api: Api) -> None:
    reader, writer = api.key(Scope.READ), api.key(Scope.WRITE)
    body = {"name": "m", "ref": {"hub": "org/name", "revision": "a" * 40}}

    assert api.client.get("/v1/models", headers=reader).status_code == 200
    refused = api.client.post("/v1/models", json=body, headers=reader)
    assert refused.status_code == 403
    assert refused.json()["code"] == "scope_missing"
    assert api.client.get("/v1/models", headers=writer).status_code == 403
    assert api.client.post("/v1/models", json=body, headers=writer).status_code == 201


def test_only_admins_see_or_make_keys(api: Api) -> None:
    member = api.key(Scope.READ, Scope.WRITE)

    assert api.client.get("/v1/api_keys", headers=member).status_code == 403
    assert api.client.post("/v1/api_keys", json={"name": "x"}, headers=member).status_code == 403


def test_a_revoked_key_stops_at_once(api: Api) -> None:
    created = _create(api)
    headers = {"Authorization": f"Bearer {created['secret']}"}

    deleted = api.client.delete(f"/v1/api_keys/{created['id']}", headers=api.headers)

    assert deleted.json() == {"id": created["id"], "object": "api_key.deleted", "deleted": True}
    assert api.client.get("/v1/files", headers=headers).status_code == 401
    assert api.client.delete(f"/v1/api_keys/{created['id']}", headers=api.headers).status_code == 404
    assert api.client.get(f"/v1/api_keys/{created['id']}", headers=api.headers).status_code == 404


def test_an_expired_key_stops(api: Api) -> None:
    created = _create(api, expires_in_seconds=3600)
    headers = {"Authorization": f"Bearer {created['secret']}"}
    assert api.client.get("/v1/files", headers=headers).status_code == 200

    with transaction(api.engine) as session:
        past = datetime.now(UTC) - timedelta(seconds=1)
        session.execute(update(ApiKey).where(ApiKey.id == created["id"]).values(expires_at=past))

    assert api.client.get("/v1/files", headers=headers).status_code == 401


def test_a_key_cannot_lock_its_owner_out(api: Api) -> None:
    answer = api.client.delete(f"/v1/api_keys/{api.principal.key_id}", headers=api.headers)

    assert answer.status_code == 409
    assert answer.headers["x-should-retry"] == "false"


def test_keys_of_another_project_do_not_exist(api: Api) -> None:
    created = _create(api)
    stranger = api.key(project="other")

    assert api.client.get(f"/v1/api_keys/{created['id']}", headers=stranger).status_code == 404
    assert api.client.delete(f"/v1/api_keys/{created['id']}", headers=stranger).status_code == 404
    assert len(api.client.get("/v1/api_keys", headers=stranger).json()["data"]) == 1


def test_use_of_a_key_is_noted_once_a_minute(api: Api) -> None:
    def last_used() -> datetime | None:
        with read_only(api.engine) as session:
            return session.get_one(ApiKey, api.principal.key_id).last_used_at

    api.client.get("/v1/files", headers=api.headers)
    first = last_used()
    api.client.get("/v1/files", headers=api.headers)

    assert first is not None
    assert last_used() == first


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "x", "scopes": []}, "/scopes"),
        ({"name": "x", "scopes": ["root"]}, "/scopes/0"),
        ({"name": "x", "color": "red"}, "/color"),
        ({"name": "x", "expires_in_seconds": -5}, "/expires_in_seconds"),
    ],
)
def test_wrong_requests_name_the_field(api: Api, body: dict[str, Any], pointer: str) -> None:
    answer = api.client.post("/v1/api_keys", json=body, headers=api.headers)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_openapi_can_be_made_and_knows_the_scheme(api: Api) -> None:
    schema = api.client.get("/openapi.json").json()

    assert schema["components"]["securitySchemes"]["api_key"]["scheme"] == "bearer"
    assert "multipart/form-data" in schema["paths"]["/v1/files"]["post"]["requestBody"]["content"]
