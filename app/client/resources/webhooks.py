"""Webhook endpoints and their deliveries."""

from app.client.resources.resource import Resource


class WebhookEndpoint(Resource):
    """`secret` is only there in the answer to its creation and to a rotation."""

    id: str
    url: str
    description: str = ""
    event_types: list[str] = []
    enabled: bool = True
    disabled_reason: str | None = None
    failing_since: int | None = None
    secret: str | None = None


class WebhookTry(Resource):
    number: int
    started_at: int
    duration_ms: int
    status: int | None = None
    error: str | None = None
    message: str | None = None


class WebhookDelivery(Resource):
    """One event for one endpoint."""

    id: str
    endpoint_id: str
    event_id: str
    type: str
    status: str
    next_try_at: int | None = None
    created_at: int
    tries: list[WebhookTry] = []
