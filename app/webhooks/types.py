"""What a webhook can be about, and what can become of a delivery. Pure."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final


class WebhookType(StrEnum):
    """Types of webhooks. The first three are OpenAI's."""

    JOB_SUCCEEDED = "fine_tuning.job.succeeded"
    JOB_FAILED = "fine_tuning.job.failed"
    JOB_CANCELLED = "fine_tuning.job.cancelled"
    JOB_QUEUED = "fusion.job.queued"
    JOB_STARTED = "fusion.job.started"
    JOB_PAUSING = "fusion.job.pausing"
    JOB_PAUSED = "fusion.job.paused"
    JOB_RESUMED = "fusion.job.resumed"
    JOB_RETRIED = "fusion.job.retried"
    JOB_CANCELLING = "fusion.job.cancelling"
    MODEL_CREATED = "fusion.model.created"
    MODEL_PUBLISHED = "fusion.model.published"
    ENDPOINT_DISABLED = "fusion.webhook_endpoint.disabled"
    """Another endpoint of the project gets nothing any more."""
    TEST = "fusion.webhook_endpoint.test"
    """Asked for by hand; sent whatever an endpoint has chosen."""


DEFAULT_TYPES: Final[Sequence[WebhookType]] = (
    WebhookType.JOB_SUCCEEDED,
    WebhookType.JOB_FAILED,
    WebhookType.JOB_CANCELLED,
)


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    """Waits for its first or next try."""
    DELIVERED = "delivered"
    """The receiver answered with 2xx."""
    FAILED = "failed"
    """Given up: every try failed, or the receiver said that it is gone (410)."""


class DisabledReason(StrEnum):
    """Why the service itself disabled an endpoint."""

    GONE = "gone"
    """It answered 410."""
    FAILING = "failing"
    """Nothing arrived there for days."""
