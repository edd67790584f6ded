"""HTTP client of the service. Importing it loads no torch, sqlalchemy, celery or fastapi."""

from app.client.client import FusionClient, JobUpdate
from app.client.errors import (
    ApiError,
    AuthenticationError,
    ClientError,
    ConflictError,
    DownloadError,
    InvalidRequestError,
    NotFoundError,
    RateLimitedError,
    ServerError,
    UnreachableError,
)
from app.client.resources import Artifact, Event, File, Job, JobError, MetricPoint, Model, Progress, Step

__all__ = [
    "ApiError",
    "Artifact",
    "AuthenticationError",
    "ClientError",
    "ConflictError",
    "DownloadError",
    "Event",
    "File",
    "FusionClient",
    "InvalidRequestError",
    "Job",
    "JobError",
    "JobUpdate",
    "MetricPoint",
    "Model",
    "NotFoundError",
    "Progress",
    "RateLimitedError",
    "ServerError",
    "Step",
    "UnreachableError",
]
