"""`/v1/webhook_endpoints` and `/v1/webhook_deliveries`."""

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select, update

from app.db.base import db_time
from app.db.models import WebhookDelivery, WebhookEndpoint
from app.db.session import read_only, transaction
from app.webhooks import retention
from app.webhooks.retention import forget_old_deliveries
from app.webhooks.service import MAX_ENDPOINTS
from tests.app.jobs.test_list_plans import explain, statements

PATH = "/v1/webhook_endpoints"
WANTED = {"url": "https://hooks.example.com/fusion", "description": "the lab's"}


@pytest.fixture
def made(client: TestClient) -> dict[str, Any]:
    endpoint: dict[str, Any] = client.post(PATH, json=WANTED).json()
    return endpoint


def test_an_endpoint_from_its_beginning_to_its_end(client: TestClient, made: dict[str, Any]) -> None:
    own = f"{PATH}/{made['id']}"
    assert made["event_types"] == [f"fine_tuning.job.{end}" for end in ("succeeded", "failed", "cancelled")]
    assert len(base64.b64decode(made["secret"].removeprefix("whsec_"))) == 32

    shown = client.get(own).json()
    assert shown | {"secret": made["secret"]} == made
    assert [one["id"] for one in client.get(PATH).json()["data"]] == [made["id"]]
    changes = {"enabled": False, "event_types": ["fusion.model.created", "fusion.model.created"]}
    changed = client.patch(own, json=changes).json()
    assert changed == shown | {"enabled": False, "event_types": ["fusion.model.created"]}
    assert client.delete(own).json() == {
        "id": made["id"],
        "object": "webhook_endpoint.deleted",
        "deleted": True,
    }
    assert client.get(own).status_code == client.delete(own).status_code == 404


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"url": "https://127.0.0.1:8443/"}, None),
        ({"url": "ftp://hooks.example.com/"}, "/url"),
        ({"url": ""}, "/url"),
        ({"url": None}, "/url"),
        ({"event_types": []}, "/event_types"),
        ({"event_types": ["job.succeeded"]}, "/event_types/0"),
        ({"description": "x" * 501}, "/description"),
        ({"description": "\0"}, "/description"),
        ({"enabled": "perhaps"}, "/enabled"),
        ({"secret": "whsec_mine"}, "/secret"),
    ],
)
def test_what_is_wrong_is_named(
    client: TestClient, made: dict[str, Any], change: Any, pointer: str | None
) -> None:
    answers = [client.post(PATH, json=WANTED | change), client.patch(f"{PATH}/{made['id']}", json=change)]
    if pointer is None:
        assert [answer.status_code for answer in answers] == [
            201,
            200,
        ]  # opened by the settings of these tests
        return
    assert [answer.status_code for answer in answers] == [422, 422]
    assert [answer.json()["errors"][0]["pointer"] for answer in answers] == [pointer] * 2


def test_no_secret_lies_open_in_the_database(
    client: TestClient, engine: Engine, made: dict[str, Any]
) -> None:
    rotated = client.post(f"{PATH}/{made['id']}/rotate_secret").json()
    with read_only(engine) as session:
        row = session.scalars(select(WebhookEndpoint)).one()

    stored = f"{row.secret} {row.old_secret}"
    for secret in (made["secret"], rotated["secret"]):
        assert secret not in stored
        assert secret.removeprefix("whsec_") not in stored
    assert rotated["old_secret_ends_at"] > rotated["created_at"] + 86_000
    client.delete(f"{PATH}/{made['id']}")
    with read_only(engine) as session:
        row = session.scalars(select(WebhookEndpoint)).one()
    assert (row.secret, row.old_secret) == (None, None)


def test_a_project_has_so_many_and_no_more(client: TestClient, made: dict[str, Any]) -> None:
    statuses = [client.post(PATH, json=WANTED).status_code for _ in range(MAX_ENDPOINTS - 3)]
    with ThreadPoolExecutor(8) as pool:
        at_once = pool.map(lambda _: client.post(PATH, json=WANTED).status_code, range(8))

    assert statuses == [201] * (MAX_ENDPOINTS - 3)
    assert sorted(at_once) == [201] * 2 + [409] * 6


def test_deliveries_are_listed_and_filtered_and_forgotten(
    client: TestClient, engine: Engine, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = [client.post(f"{PATH}/{made['id']}/test") for _ in range(3)]
    listed = client.get(f"{PATH}/{made['id']}/deliveries?limit=2").json()

    assert [answer.status_code for answer in sent] == [202] * 3
    assert [one["id"] for one in listed["data"]] == [answer.json()["id"] for answer in sent[:0:-1]]
    assert listed["has_more"]
    assert client.get(f"{PATH}/{made['id']}/deliveries?status=failed").json()["data"] == []
    assert client.get(f"{PATH}/{made['id']}/deliveries?status=lost").status_code == 422
    monkeypatch.setattr(retention, "_ROWS_AT_ONCE", 1)
    with transaction(engine) as session:
        old = WebhookDelivery.id.in_([answer.json()["id"] for answer in sent[:2]])
        session.execute(update(WebhookDelivery).where(old).values(created_at=db_time(-31 * 86_400)))
    with statements(engine) as said:
        foreseen = forget_old_deliveries(engine, dry_run=True)
    assert foreseen == forget_old_deliveries(engine) == 2
    assert forget_old_deliveries(engine) == 0
    assert "ix_webhook_deliveries_created_at" in explain(engine, *said[0])


def test_with_an_endpoint_its_deliveries_go(client: TestClient, made: dict[str, Any]) -> None:
    delivery = client.post(f"{PATH}/{made['id']}/test").json()
    client.delete(f"{PATH}/{made['id']}")

    answer = client.post(f"/v1/webhook_deliveries/{delivery['id']}/redeliver")
    assert (answer.status_code, answer.json()["code"]) == (404, "webhook_delivery_not_found")
