"""Webhook endpoints and deliveries as the API shows them."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from app.db.base import unix_seconds
from app.db.models import WebhookDelivery, WebhookEndpoint
from app.webhooks.reach import MAX_URL_LENGTH
from app.webhooks.types import DEFAULT_TYPES, DeliveryStatus, DisabledReason, WebhookType

_EXAMPLE_URL = "https://hooks.example.com/fusion"
Url = Annotated[str, Field(min_length=1, max_length=MAX_URL_LENGTH, examples=[_EXAMPLE_URL])]
Description = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")]
ChosenTypes = Annotated[list[WebhookType], Field(min_length=1, max_length=50)]


class CreateWebhookEndpoint(BaseModel):
    """Where a project wants to be told what happens."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={
            "example": {
                "url": _EXAMPLE_URL,
                "event_types": ["fine_tuning.job.succeeded", "fusion.model.created"],
            }
        },
    )

    url: Url
    """https, to a public address."""
    description: Description = ""
    event_types: ChosenTypes = list(DEFAULT_TYPES)
    """What it is told; by default that a job has ended."""
    enabled: StrictBool = True


class ChangeWebhookEndpoint(BaseModel):
    """What shall be different; what is not named stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"enabled": True}})

    # Factories, because the document would show a plain default as what happens.
    url: Url = Field(default_factory=str)
    description: Description = Field(default_factory=str)
    event_types: ChosenTypes = Field(default_factory=list)
    enabled: StrictBool = Field(default_factory=bool)

    def changes(self) -> dict[str, Any]:
        """What the request names."""
        return self.model_dump(exclude_unset=True)


class WebhookEndpointObject(BaseModel):
    """An endpoint without its secret."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    url: str
    description: str
    event_types: list[WebhookType]
    enabled: bool
    disabled_reason: DisabledReason | None
    """Why the service disabled it: it answered 410, or nothing arrived for 5 days."""
    failing_since: int | None
    """First failure since something last arrived."""
    old_secret_ends_at: int | None
    """Until when the secret before the last rotation signs too."""
    created_at: int
    created_by: str | None

    @classmethod
    def of(cls, endpoint: WebhookEndpoint) -> Self:
        return cls(
            id=endpoint.id,
            url=endpoint.url,
            description=endpoint.description,
            event_types=[WebhookType(one) for one in endpoint.event_types],
            enabled=endpoint.enabled,
            disabled_reason=None
            if endpoint.disabled_reason is None
            else DisabledReason(endpoint.disabled_reason),
            failing_since=_seconds(endpoint.failing_since),
            old_secret_ends_at=_seconds(endpoint.old_secret_ends_at),
            created_at=unix_seconds(endpoint.created_at),
            created_by=endpoint.created_by,
        )


class WebhookEndpointWithSecret(WebhookEndpointObject):
    """An endpoint with a new secret."""

    secret: str
    """What its webhooks are signed with. It is shown now and never again."""


class DeletedWebhookEndpoint(BaseModel):
    """An endpoint that is gone."""

    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


class WebhookTry(BaseModel):
    """One try. A number that is missing was cut off by a crash."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    number: int
    started_at: int
    duration_ms: int
    status: int | None
    """Of the receiver's answer."""
    error: str | None
    """For programs; null where it arrived."""
    message: str | None


class WebhookDeliveryObject(BaseModel):
    """One event for one endpoint."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["webhook_delivery"] = "webhook_delivery"
    endpoint_id: str
    event_id: str
    """`webhook-id` of every try."""
    type: WebhookType
    data: dict[str, Any]
    job_id: str | None
    status: DeliveryStatus
    next_try_at: int | None
    """When it is due; null once it has ended, and while its endpoint is disabled."""
    created_at: int
    ended_at: int | None
    tries: list[WebhookTry]
    """The latest 50, the oldest first."""

    @classmethod
    def of(cls, delivery: WebhookDelivery) -> Self:
        is_pending = delivery.status == DeliveryStatus.PENDING
        return cls(
            id=delivery.id,
            endpoint_id=delivery.endpoint_id,
            event_id=delivery.event_id,
            type=WebhookType(delivery.type),
            data=delivery.data,
            job_id=delivery.job_id,
            status=DeliveryStatus(delivery.status),
            next_try_at=_seconds(delivery.due_at) if is_pending else None,
            created_at=unix_seconds(delivery.created_at),
            ended_at=_seconds(delivery.ended_at),
            tries=[WebhookTry.model_validate(one) for one in delivery.tries],
        )


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else unix_seconds(moment)
