"""Calls about webhooks: where a project is told what happens, and what became of it."""

from typing import Any

from app.client.calls import PAGE_SIZE, Calls
from app.client.resources.webhooks import WebhookDelivery, WebhookEndpoint

_PATH = "/v1/webhook_endpoints"


class Webhooks(Calls):
    """These need the scopes `webhooks:read` and `webhooks:write`."""

    def create_webhook_endpoint(
        self, *, url: str, event_types: list[str] | None = None, description: str = ""
    ) -> WebhookEndpoint:
        """Make an endpoint; its `secret` is shown in this answer and never again."""
        body: dict[str, Any] = {"url": url, "description": description}
        if event_types is not None:
            body["event_types"] = event_types
        return WebhookEndpoint.model_validate(self._transport.request("POST", _PATH, json=body))

    def list_webhook_endpoints(self) -> list[WebhookEndpoint]:
        return self._list(_PATH, WebhookEndpoint)

    def change_webhook_endpoint(self, endpoint_id: str, **changes: Any) -> WebhookEndpoint:
        """Change some of `url`, `description`, `event_types` and `enabled`."""
        answer = self._transport.request("PATCH", f"{_PATH}/{endpoint_id}", json=changes)
        return WebhookEndpoint.model_validate(answer)

    def delete_webhook_endpoint(self, endpoint_id: str) -> None:
        self._transport.request("DELETE", f"{_PATH}/{endpoint_id}")

    def rotate_webhook_secret(self, endpoint_id: str) -> WebhookEndpoint:
        """Give an endpoint a new `secret`; the old one signs too for 24 hours."""
        answer = self._transport.request("POST", f"{_PATH}/{endpoint_id}/rotate_secret")
        return WebhookEndpoint.model_validate(answer)

    def test_webhook_endpoint(self, endpoint_id: str) -> WebhookDelivery:
        """Have a webhook sent for a test; `webhook_delivery` says what became of it."""
        return WebhookDelivery.model_validate(self._transport.request("POST", f"{_PATH}/{endpoint_id}/test"))

    def webhook_deliveries(
        self, endpoint_id: str, *, status: str | None = None, limit: int = PAGE_SIZE
    ) -> list[WebhookDelivery]:
        """What was, is or will be sent to an endpoint, the newest first."""
        params = {"status": status, "limit": min(limit, PAGE_SIZE), "order": "desc"}
        path = f"{_PATH}/{endpoint_id}/deliveries"
        return self._list(path, WebhookDelivery, params=params, at_most=limit)

    def webhook_delivery(self, delivery_id: str) -> WebhookDelivery:
        answer = self._transport.request("GET", f"/v1/webhook_deliveries/{delivery_id}")
        return WebhookDelivery.model_validate(answer)

    def redeliver_webhook(self, delivery_id: str) -> WebhookDelivery:
        """Have a delivery sent again, or now where it waits."""
        answer = self._transport.request("POST", f"/v1/webhook_deliveries/{delivery_id}/redeliver")
        return WebhookDelivery.model_validate(answer)
