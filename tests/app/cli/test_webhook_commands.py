"""`fusion webhooks`."""

import json
from collections.abc import Callable

from tests.app.cli.conftest import Ran, Service

ENDPOINT = {
    "id": "whe-1",
    "object": "webhook_endpoint",
    "url": "https://hooks.example.com/",
    "description": "",
    "event_types": ["fusion.model.created"],
    "enabled": True,
}
TRY = {"number": 1, "started_at": 1_700_000_000, "duration_ms": 12, "status": 500, "error": "refused"}
DELIVERY = {
    "id": "whd-1",
    "endpoint_id": "whe-1",
    "event_id": "evt-1",
    "type": "fusion.model.created",
    "status": "pending",
    "next_try_at": 1_700_000_005,
    "created_at": 1_700_000_000,
    "tries": [TRY],
}
PATH = "/v1/webhook_endpoints"
Fusion = Callable[..., Ran]


def test_endpoints_are_made_listed_changed_and_deleted(talking: Fusion, service: Service) -> None:
    service.gives(f"POST {PATH}", {**ENDPOINT, "secret": "whsec_x"}, status=201)
    service.gives_list(f"GET {PATH}", ENDPOINT)
    service.gives(f"PATCH {PATH}/whe-1", {**ENDPOINT, "enabled": False, "disabled_reason": "gone"})
    service.gives(f"POST {PATH}/whe-1/rotate_secret", {**ENDPOINT, "secret": "whsec_y"})
    service.gives(f"DELETE {PATH}/whe-1", {"id": "whe-1", "deleted": True})

    made = talking("webhooks", "create", ENDPOINT["url"], "--type", "fusion.model.created")
    assert made.out == "whe-1  whsec_x\n"
    assert json.loads(service.requests[-1][1])["event_types"] == ["fusion.model.created"]
    assert "enabled" in talking("webhooks", "list").out
    assert talking("webhooks", "disable", "whe-1").out == "whe-1 is disabled (gone)\n"
    assert talking("webhooks", "enable", "whe-1", "--json").json["id"] == "whe-1"
    assert json.loads(service.requests[-1][1]) == {"enabled": True}
    assert talking("webhooks", "rotate", "whe-1").out == "whe-1  whsec_y\n"
    assert talking("webhooks", "delete", "whe-1").out == "whe-1 is deleted\n"


def test_deliveries_are_seen_and_repeated(talking: Fusion, service: Service) -> None:
    service.gives(f"POST {PATH}/whe-1/test", DELIVERY, status=202)
    service.gives_list(f"GET {PATH}/whe-1/deliveries", DELIVERY)
    service.gives("POST /v1/webhook_deliveries/whd-1/redeliver", DELIVERY, status=202)

    assert talking("webhooks", "test", "whe-1").out == "whd-1 is queued\n"
    assert "whd-1\tfusion.model.created\tpending\t1\t500\t" in talking("webhooks", "deliveries", "whe-1").out
    assert talking("webhooks", "redeliver", "whd-1", "--json").json["event_id"] == "evt-1"
