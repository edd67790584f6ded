"""A project with an endpoint, its receiver, and a courier that may reach loopback."""

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, update

from app.accounts.bootstrap import ensure_admin_key
from app.db.base import db_time
from app.db.models import WebhookDelivery
from app.db.session import transaction
from app.main import create_app
from app.settings import Settings
from app.webhooks.courier import Courier
from app.webhooks.reach import Reach
from app.webhooks.wire import Wire
from tests.support.receivers import Receiver, receiving

AT_ONCE = (0.0,) * 10
"""The schedule without its pauses."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    opened = {"webhook_allow_http": True, "webhook_ports": "", "webhook_networks": "127.0.0.0/8,::1/128"}
    return Settings.model_validate(settings.model_dump() | opened)


@pytest.fixture
def client(settings: Settings, engine: Engine) -> Iterator[TestClient]:
    app = create_app(settings)
    key = ensure_admin_key(engine, path=settings.data_dir / "admin_key", pepper=app.state.key_pepper)
    yield TestClient(app, headers={"Authorization": f"Bearer {key}"}, raise_server_exceptions=False)
    app.state.engine.dispose()


@pytest.fixture
def project_id(client: TestClient) -> str:
    project: str = client.get("/v1/me").json()["project"]["id"]
    return project


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def courier(client: TestClient, engine: Engine, settings: Settings) -> Courier:
    return make_courier(client, engine, settings)


def make_courier(client: TestClient, engine: Engine, settings: Settings, **changes: Any) -> Courier:
    wire = Wire(reach=Reach.of(settings), ssl_context=ssl.create_default_context(), seconds=0.5)
    seals = client.app.state.seals  # type: ignore[attr-defined]
    return Courier(**{"engine": engine, "seals": lambda: seals, "wire": wire, "pauses": AT_ONCE} | changes)


@pytest.fixture
def endpoint(client: TestClient, receiver: Receiver) -> dict[str, Any]:
    """An endpoint of every type, with its secret."""
    return make_endpoint(client, receiver.url)


def make_endpoint(client: TestClient, url: str, **changes: Any) -> dict[str, Any]:
    schema = client.get("/openapi.json").json()["components"]["schemas"]["WebhookType"]
    answer = client.post("/v1/webhook_endpoints", json={"url": url, "event_types": schema["enum"], **changes})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


@pytest.fixture
def deliveries(client: TestClient, endpoint: dict[str, Any]) -> Callable[[], list[dict[str, Any]]]:
    """What was, is or will be sent to the endpoint, the oldest first."""

    def look() -> list[dict[str, Any]]:
        path = f"/v1/webhook_endpoints/{endpoint['id']}/deliveries?order=asc&limit=100"
        found: list[dict[str, Any]] = client.get(path).json()["data"]
        return found

    return look


def make_due(engine: Engine) -> None:
    """End every pause."""
    with transaction(engine) as session:
        session.execute(update(WebhookDelivery).values(due_at=db_time(-1)))


def end_leases(engine: Engine) -> None:
    """What a minute does after a crash."""
    with transaction(engine) as session:
        session.execute(update(WebhookDelivery).values(leased_until=db_time(-1)))
