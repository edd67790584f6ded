"""HTTP client of the service. Importing it loads no torch, sqlalchemy, celery or fastapi."""

from app.client.client import FusionClient
from app.client.errors import (
    ApiError,
    AuthenticationError,
    ClientError,
    ConflictError,
    DownloadError,
    GoneError,
    InvalidRequestError,
    NotFoundError,
    PromotionFailedError,
    PublicationFailedError,
    RateLimitedError,
    ServerError,
    StreamRefusedError,
    UnreachableError,
)
from app.client.event_stream import ServerEvent
from app.client.following import JobUpdate
from app.client.resources.administration import ApiKey, AuditEvent, Me, Project
from app.client.resources.files import File
from app.client.resources.following import Curve, Curves, Event, LogLine, MetricPoint
from app.client.resources.jobs import Attempt, Estimate, Figure, Job, JobError, Progress, Step
from app.client.resources.recipes import Recipe
from app.client.resources.results import Artifact, Checkpoint, Model, Promotion, Publication
from app.client.resources.webhooks import WebhookDelivery, WebhookEndpoint

__all__ = [
    "ApiError",
    "ApiKey",
    "Artifact",
    "Attempt",
    "AuditEvent",
    "AuthenticationError",
    "Checkpoint",
    "ClientError",
    "ConflictError",
    "Curve",
    "Curves",
    "DownloadError",
    "Estimate",
    "Event",
    "Figure",
    "File",
    "FusionClient",
    "GoneError",
    "InvalidRequestError",
    "Job",
    "JobError",
    "JobUpdate",
    "LogLine",
    "Me",
    "MetricPoint",
    "Model",
    "NotFoundError",
    "Progress",
    "Project",
    "Promotion",
    "PromotionFailedError",
    "Publication",
    "PublicationFailedError",
    "RateLimitedError",
    "Recipe",
    "ServerError",
    "ServerEvent",
    "Step",
    "StreamRefusedError",
    "UnreachableError",
    "WebhookDelivery",
    "WebhookEndpoint",
]
