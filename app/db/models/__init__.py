"""All tables, one per file. Import models from here, so that the metadata is always complete."""

from app.db.models.api_key import ApiKey
from app.db.models.artifact import Artifact
from app.db.models.artifact_file import ArtifactFile
from app.db.models.attempt import Attempt
from app.db.models.audit_event import AuditEvent
from app.db.models.event import Event
from app.db.models.file import File
from app.db.models.idempotency_key import IdempotencyKey
from app.db.models.job import Job
from app.db.models.job_estimate import JobEstimate
from app.db.models.job_label import JobLabel
from app.db.models.log_chunk import LogChunk
from app.db.models.metric_point import MetricPoint
from app.db.models.model import Model
from app.db.models.outbox_message import OutboxMessage
from app.db.models.project import Project
from app.db.models.promotion import Promotion
from app.db.models.publication import Publication
from app.db.models.secret import Secret
from app.db.models.step import Step
from app.db.models.step_need import StepNeed
from app.db.models.upload import Upload
from app.db.models.upload_part import UploadPart
from app.db.models.webhook_delivery import WebhookDelivery
from app.db.models.webhook_endpoint import WebhookEndpoint
from app.db.models.worker import Worker

__all__ = [
    "ApiKey",
    "Artifact",
    "ArtifactFile",
    "Attempt",
    "AuditEvent",
    "Event",
    "File",
    "IdempotencyKey",
    "Job",
    "JobEstimate",
    "JobLabel",
    "LogChunk",
    "MetricPoint",
    "Model",
    "OutboxMessage",
    "Project",
    "Promotion",
    "Publication",
    "Secret",
    "Step",
    "StepNeed",
    "Upload",
    "UploadPart",
    "WebhookDelivery",
    "WebhookEndpoint",
    "Worker",
]
