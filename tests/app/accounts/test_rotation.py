"""Keys that expire and are replaced, on both databases and in several API processes."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, update

from app.db.base import db_time
from app.db.models import ApiKey
from app.db.session import transaction
from app.main import create_app
from app.settings import Settings


@pytest.fixture
def other_process(settings: Settings, engine: Engine) -> Iterator[TestClient]:
    """Another API process of the same service."""
    app = create_app(settings)
    yield TestClient(app)
    app.state.engine.dispose()


def make(client: TestClient, **wanted: Any) -> dict[str, Any]:
    answer = client.post("/v1/api_keys", json={"name": "ci", **wanted})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def rotate(client: TestClient, key: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    answer = client.post(f"/v1/api_keys/{key['id']}/rotate", json=wanted)
    assert answer.status_code == 201, answer.text
    rotated: dict[str, Any] = answer.json()
    return rotated


def use(client: TestClient, key: dict[str, Any]) -> tuple[int, str | None]:
    answer = client.get("/v1/jobs", headers={"Authorization": f"Bearer {key['secret']}"})
    return answer.status_code, answer.json().get("code")


def let_expire(engine: Engine, key: dict[str, Any]) -> None:
    with transaction(engine) as session:
        session.execute(update(ApiKey).where(ApiKey.id == key["id"]).values(expires_at=db_time(-1)))


def test_two_keys_work_during_a_rotation_and_one_after_it(client: TestClient, engine: Engine) -> None:
    old = make(client, scopes=["jobs:read"])

    new = rotate(client, old, overlap_seconds=600)

    assert (use(client, old)[0], use(client, new)[0]) == (200, 200)
    assert (new["name"], new["scopes"], new["expires_at"]) == (old["name"], ["jobs:read"], None)
    shown = client.get(f"/v1/api_keys/{old['id']}").json()
    assert shown["replaced_by_id"] == new["id"]
    assert shown["expires_at"] - shown["created_at"] in range(599, 610)
    let_expire(engine, old)
    assert (use(client, old), use(client, new)[0]) == ((401, "api_key_expired"), 200)


def test_a_rotated_key_is_not_rotated_again_but_its_successor_is(client: TestClient) -> None:
    first = make(client)
    second = rotate(client, first)

    again = client.post(f"/v1/api_keys/{first['id']}/rotate", json={})
    third = rotate(client, second)

    assert (again.status_code, again.json()["code"]) == (409, "api_key_rotated")
    assert [use(client, key)[0] for key in (first, second, third)] == [401, 200, 200]


def test_a_rotation_prolongs_nothing(client: TestClient) -> None:
    soon = make(client, expires_in_seconds=120)

    new = rotate(client, soon, overlap_seconds=86_400)

    assert new["expires_at"] == soon["expires_at"]
    assert client.get(f"/v1/api_keys/{soon['id']}").json()["expires_at"] == soon["expires_at"]


def test_an_expired_key_has_nothing_to_hand_over(client: TestClient, engine: Engine) -> None:
    old = make(client)
    let_expire(engine, old)

    answer = client.post(f"/v1/api_keys/{old['id']}/rotate", json={})

    assert (answer.status_code, answer.json()["code"]) == (409, "api_key_expired")


def test_a_key_gives_nothing_that_it_does_not_have(client: TestClient) -> None:
    admin = make(client, scopes=["admin"])
    stronger = make(client, scopes=["operator"])
    as_admin = {"Authorization": f"Bearer {admin['secret']}"}

    made = client.post("/v1/api_keys", json={"name": "x", "scopes": ["operator"]}, headers=as_admin)
    rotated = client.post(f"/v1/api_keys/{stronger['id']}/rotate", json={}, headers=as_admin)

    for answer in (made, rotated):
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_not_yours")
    assert use(client, stronger) == (403, "scope_missing")


def test_a_revoked_key_stops_at_once_in_every_process(client: TestClient, other_process: TestClient) -> None:
    key = make(client)
    assert use(other_process, key)[0] == 200

    client.delete(f"/v1/api_keys/{key['id']}")

    assert use(other_process, key) == (401, "api_key_revoked")


def test_a_wrong_secret_is_not_told_that_the_key_once_worked(client: TestClient) -> None:
    key = make(client)
    client.delete(f"/v1/api_keys/{key['id']}")
    secret = key["secret"][:-1] + ("A" if key["secret"][-1] != "A" else "B")

    assert use(client, {"secret": secret}) == (401, "invalid_api_key")


def test_who_made_a_key_is_written_down(client: TestClient) -> None:
    me = client.get("/v1/me").json()

    assert make(client)["created_by"] == me["key_id"]
