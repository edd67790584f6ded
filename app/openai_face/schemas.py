"""Jobs, their events and checkpoints in OpenAI's shapes. Every field is always there, null where it is empty:
OpenAI's clients check nothing, and an absent field would surprise their users much later.
"""

from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict

from app.db.base import unix_seconds
from app.db.models import Event, Job, MetricPoint
from app.jobs.lifecycle import JobStatus
from app.jobs.schemas import JobOut
from fusion.spec import TrainingSpec

FaceStatus = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
STATUS: Final[dict[JobStatus, FaceStatus]] = {
    JobStatus.VALIDATING: "validating_files",
    JobStatus.QUEUED: "queued",
    JobStatus.RUNNING: "running",
    JobStatus.PAUSING: "running",
    JobStatus.PAUSED: "paused",
    JobStatus.CANCELLING: "running",
    JobStatus.SUCCEEDED: "succeeded",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "cancelled",
}
"""What still stops is still running."""
_WARNINGS: Final = frozenset({"step_requeued", "step_cancelled"})
_ERRORS: Final = frozenset({"step_failed"})


class FaceModel(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class FineTuningError(FaceModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None
    """Pointer into the spec."""
    hint: str | None
    """The way out, where one is known; ours."""


class UsedHyperparameters(FaceModel):
    """What the training uses."""

    n_epochs: int
    batch_size: int
    """Sequences behind one optimiser step."""
    learning_rate_multiplier: float | None
    """As asked for; null where nobody did."""
    learning_rate: float
    """Ours."""


class UsedSupervised(FaceModel):
    hyperparameters: UsedHyperparameters


class UsedMethod(FaceModel):
    type: Literal["supervised"] = "supervised"
    supervised: UsedSupervised


class FineTuningJob(FaceModel):
    """A fusion job as OpenAI's clients know it; `GET /v1/jobs/{id}` shows more of the same job."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    status: FaceStatus
    """`paused` is newer than some clients' types, which take it nevertheless."""
    error: FineTuningError | None
    model: str
    """As asked for; of a job of the native API, its target."""
    fine_tuned_model: str | None
    """Id of the fused model, once there is one."""
    organization_id: str
    """The project."""
    training_file: str
    """As asked for; of a job of the native API, its corpus."""
    validation_file: None = None
    result_files: list[str]
    """The curves as CSV, once the job has ended."""
    trained_tokens: int | None
    """Tokens that were trained on, with fusion and without, once the job has ended."""
    estimated_finish: int | None
    hyperparameters: UsedHyperparameters
    method: UsedMethod
    seed: int
    integrations: None = None
    metadata: dict[str, str] | None
    suffix: str
    """The name of the job; ours."""

    @classmethod
    def of(cls, job: Job, shown: JobOut, *, trained_tokens: int | None, result_files: list[str]) -> Self:
        asked: dict[str, Any] = job.openai_request or {}
        # A field that a stored spec lacks, because it is newer than the job, has its default.
        training = TrainingSpec.model_validate(job.spec.get("training", {}))
        used = UsedHyperparameters(
            n_epochs=training.num_epochs,
            batch_size=training.sequences_per_step,
            learning_rate_multiplier=asked.get("learning_rate_multiplier"),
            learning_rate=training.learning_rate,
        )
        error = shown.error
        return cls(
            id=job.id,
            created_at=shown.created_at,
            finished_at=shown.finished_at,
            status=STATUS[shown.status],
            error=None
            if error is None
            else FineTuningError(
                code=error.code, message=error.message, param=error.pointer, hint=error.hint
            ),
            model=asked.get("model") or _target_of(job.spec),
            fine_tuned_model=shown.model_id,
            organization_id=job.project_id,
            training_file=asked.get("training_file") or _corpus_of(job.spec),
            result_files=result_files,
            trained_tokens=trained_tokens,
            estimated_finish=shown.progress.estimated_finish_at,
            hyperparameters=used,
            method=UsedMethod(supervised=UsedSupervised(hyperparameters=used)),
            seed=job.spec.get("seed", 0),
            metadata=shown.metadata or None,
            suffix=shown.name,
        )


class FineTuningEvent(FaceModel):
    """Something that happened to a job, or numbers of one optimiser step."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]
    """Of a message, its kind (`event`) and details; else the numbers by name."""

    @classmethod
    def of_event(cls, event: Event) -> Self:
        return cls(
            id=event.id,
            created_at=unix_seconds(event.created_at),
            level=_level_of(event),
            message=event.message,
            type="message",
            data={"event": event.type, **event.details},
        )

    @classmethod
    def of_point(cls, point: MetricPoint, *, step_name: str) -> Self:
        loss = point.values.get("loss")
        told = "" if loss is None else f": loss {loss:.4f}"
        return cls(
            id=point.id,
            created_at=unix_seconds(point.created_at),
            level="info",
            message=f"{step_name}, step {point.metric_step}{told}",
            type="metrics",
            data={"step": point.metric_step, "train_loss": loss, "run": step_name, **point.values},
        )


class CheckpointMetrics(FaceModel):
    """The last numbers recorded by then; what is not measured there is null."""

    step: int
    train_loss: float | None
    train_mean_token_accuracy: float | None = None
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None


class FineTuningCheckpoint(FaceModel):
    """The state of a training after some steps."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str
    """Id of the model that it was promoted to, else of the checkpoint, with which it can be promoted."""
    step_number: int
    metrics: CheckpointMetrics


def _level_of(event: Event) -> Literal["info", "warn", "error"]:
    failed = event.type == "job_status_changed" and event.details.get("to") == JobStatus.FAILED
    if failed or event.type in _ERRORS:
        return "error"
    return "warn" if event.type in _WARNINGS else "info"


def _target_of(spec: dict[str, Any]) -> str:
    target = spec.get("target", {}).get("model", {})
    hub = f"{target['hub']}@{target['revision']}" if target.get("hub") else None
    return str(target.get("model_id") or hub or target.get("path", ""))


def _corpus_of(spec: dict[str, Any]) -> str:
    corpus = spec.get("corpus", {})
    dataset, files = corpus.get("dataset"), corpus.get("files") or [{}]
    if dataset is not None:
        return f"{dataset['hub']}@{dataset['revision']}"
    return str(files[0].get("file_id") or files[0].get("path", ""))
