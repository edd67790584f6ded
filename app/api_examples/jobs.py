"""Jobs, while one of them trains."""

from collections.abc import Mapping
from typing import Any, Final

from app.api_examples.story import (
    FILE_ID,
    FUSED_AT,
    JOB_ID,
    KEY_ID,
    NOW,
    PREPARE_ID,
    PREPARED_AT,
    PREPARED_ID,
    REVISION,
    STARTED_AT,
    SUBMITTED_AT,
    TRAIN_ID,
    TRAINING_AT,
    page,
)
from app.jobs.budgets import worker_lost
from app.jobs.schemas import ErrorOut
from fusion.plan import plan_steps
from fusion.spec import FusionSpec

_SPEC: Final = FusionSpec.model_validate(
    {
        "api_version": "fusion/v1",
        "name": "wise",
        "sources": [{"name": "code", "model": {"hub": "example/code-7b", "revision": REVISION}}],
        "target": {"model": {"hub": "example/base-7b", "revision": REVISION}},
        "corpus": {"files": [{"file_id": FILE_ID, "domain": "prose"}]},
    }
)
_PROGRESS: Final[dict[str, Any]] = {
    "stage": "train",
    "step": "train.fused",
    "percent": 45.0,
    "done": 800,
    "total": 2400,
    "unit": "steps",
    "tokens_done": 52_428_800,
    "eta_seconds": 28_400,
    "estimated_finish_at": FUSED_AT,
    "updated_at": NOW,
    "stage_eta_seconds": 14_400,
}
JOB: Final[dict[str, Any]] = {
    "object": "job",
    "id": JOB_ID,
    "version": 11,
    "name": "wise",
    "tags": ["baseline"],
    "metadata": {"team": "nlp"},
    "status": "running",
    "status_reason": None,
    "queue_position": None,
    "progress": _PROGRESS,
    "error": None,
    "model_id": None,
    "artifact_id": None,
    "priority": 0,
    "cloned_from_id": None,
    "root_job_id": None,
    "created_by": KEY_ID,
    "spec": _SPEC.model_dump(mode="json"),
    "spec_digest": _SPEC.digest(),
    "created_at": SUBMITTED_AT,
    "started_at": STARTED_AT,
    "finished_at": None,
}
_QUEUED: Final[dict[str, Any]] = {
    **JOB,
    "version": 1,
    "tags": [],
    "metadata": {},
    "status": "queued",
    "status_reason": "waiting_for_worker",
    "queue_position": 1,
    "progress": {
        **dict.fromkeys(_PROGRESS),
        "stage": "prepare",
        "percent": 0.0,
    },
    "started_at": None,
}
_CANCELLING: Final[dict[str, Any]] = {**JOB, "version": 12, "status": "cancelling"}
_CANCELLED: Final[dict[str, Any]] = {
    **JOB,
    "version": 14,
    "status": "cancelled",
    "progress": {**_PROGRESS, "stage_eta_seconds": None, "eta_seconds": None, "estimated_finish_at": None},
    "finished_at": NOW,
}
_PAUSING: Final[dict[str, Any]] = {**JOB, "version": 12, "status": "pausing"}
_PAUSED: Final[dict[str, Any]] = {**JOB, "version": 14, "status": "paused"}
_RESUMED: Final[dict[str, Any]] = {**JOB, "version": 15, "status": "queued"}
_CLONE: Final[dict[str, Any]] = {
    **_QUEUED,
    "id": "job-01m8k3h3x7y4p3t0k9d5r2w8ze",
    "cloned_from_id": JOB_ID,
    "root_job_id": JOB_ID,
}


def _figure(value: float, low: float, high: float, unit: str, basis: str, why: str) -> dict[str, Any]:
    figures = {"value": value, "low": low, "high": high}
    if unit != "hours":
        figures = {name: round(number) for name, number in figures.items()}
    return {**figures, "unit": unit, "basis": basis, "why": why, "actual": None}


_HOURS: Final = {
    "prepare": 0.1,
    "extract.target": 0.6,
    "extract.code": 0.6,
    "align": 0.2,
    "train.fused": 3.5,
    "train.control": 3.2,
    "evaluate": 0.6,
    "publish": 0.1,
}
_LARGEST: Final = "train.fused is the largest step"
_ESTIMATE: Final[dict[str, Any]] = {
    "object": "job_estimate",
    "tokens": _figure(78_000_000, 70_000_000, 86_000_000, "tokens", "measured", "the text was counted"),
    "hours": _figure(8.9, 5.9, 13.4, "hours", "modelled", "all steps one after another"),
    "host_memory": _figure(88e9, 81e9, 95e9, "bytes", "modelled", _LARGEST),
    "device_memory": _figure(96e9, 88e9, 110e9, "bytes", "modelled", _LARGEST),
    "disk": _figure(262e9, 210e9, 300e9, "bytes", "modelled", "two checkpoints of the training"),
    "stored": _figure(19e9, 17e9, 21e9, "bytes", "modelled", "captures, lessons and the model"),
    "steps": {
        name: _figure(
            hours, round(hours / 1.5, 2), round(hours * 1.5, 2), "hours", "modelled", "from its work"
        )
        for name, hours in _HOURS.items()
    },
    "warnings": [],
    "allowed_to_proceed": True,
}
_IN_FULL: Final[dict[str, Any]] = {**JOB, "estimate": _ESTIMATE}
_VALIDATION: Final[dict[str, Any]] = {
    "object": "job_validation",
    "valid": True,
    "spec": JOB["spec"],
    "spec_digest": JOB["spec_digest"],
    "steps": [
        {
            "name": step.name,
            "stage": step.stage,
            "subject": step.subject,
            "resource": step.resource,
            "needs": list(step.needs),
        }
        for step in plan_steps(_SPEC)
    ],
    "estimate": _ESTIMATE,
    "warnings": [],
}


def _attempt(step: str, step_id: str, number: int, **how: Any) -> dict[str, Any]:
    return {
        "object": "attempt",
        "id": f"{step_id}:{number}",
        "job_id": JOB_ID,
        "step_id": step_id,
        "step": step,
        "number": number,
        "worker_id": "node-3-7f2a",
        "outcome": "running",
        "reason": None,
        "error": None,
        "started_at": TRAINING_AT,
        "ended_at": None,
        **how,
    }


_PREPARED: Final = _attempt(
    "prepare", PREPARE_ID, 1, outcome="succeeded", started_at=STARTED_AT, ended_at=PREPARED_AT
)
_LOST: Final = _attempt(
    "train.fused",
    TRAIN_ID,
    1,
    worker_id="node-1-91c4",
    outcome="lost",
    reason="worker_lost",
    error=ErrorOut.model_validate(worker_lost()).model_dump(mode="json"),
    ended_at=TRAINING_AT + 300,
)
_TRAINING: Final = _attempt("train.fused", TRAIN_ID, 2, started_at=TRAINING_AT + 302)
_STEP: Final[dict[str, Any]] = {
    "object": "step",
    "id": TRAIN_ID,
    "job_id": JOB_ID,
    "name": "train.fused",
    "stage": "train",
    "subject": "fused",
    "resource": "gpu",
    "status": "running",
    "status_reason": None,
    "attempt": 2,
    "num_errors": 0,
    "num_losses": 0,
    "needs": ["align"],
    "progress": {
        **{name: value for name, value in _PROGRESS.items() if name != "stage_eta_seconds"},
        "percent": 33.3,
        "eta_seconds": 14_400,
        "estimated_finish_at": NOW + 14_400,
    },
    "expected_seconds": 21_600,
    "waits_until": None,
    "worker_id": "node-3-7f2a",
    "last_attempt": _TRAINING,
    "artifact_id": None,
    "figures": None,
    "error": None,
    "created_at": SUBMITTED_AT,
    "started_at": TRAINING_AT,
    "finished_at": None,
}
_FIRST_STEP: Final[dict[str, Any]] = {
    **_STEP,
    "id": PREPARE_ID,
    "name": "prepare",
    "stage": "prepare",
    "subject": None,
    "resource": "cpu",
    "status": "succeeded",
    "attempt": 1,
    "needs": [],
    "progress": {**dict.fromkeys(_STEP["progress"]), "stage": "prepare", "step": "prepare", "percent": 100.0},
    "expected_seconds": 300,
    "worker_id": None,
    "last_attempt": _PREPARED,
    "artifact_id": PREPARED_ID,
    "figures": {"num_documents": 120_000, "num_windows": 154_000, "num_bytes": 310_000_000},
    "started_at": STARTED_AT,
    "finished_at": PREPARED_AT,
}
_STATUSES: Final = (
    *("validating", "queued", "running", "pausing", "paused", "cancelling"),
    *("succeeded", "failed", "cancelled"),
)

JOB_ANSWERS: Final[Mapping[str, Mapping[int, Any]]] = {
    "GET /v1/jobs": {200: page(JOB)},
    "POST /v1/jobs": {200: _VALIDATION, 201: _QUEUED},
    "GET /v1/jobs/counts": {
        200: {
            "object": "job_counts",
            "total": 13,
            "by_status": {**dict.fromkeys(_STATUSES, 0), "running": 1, "succeeded": 12},
        }
    },
    "POST /v1/jobs/validate": {200: _VALIDATION},
    "POST /v1/jobs/estimate": {200: _ESTIMATE},
    "GET /v1/jobs/{job_id}": {200: _IN_FULL},
    "PATCH /v1/jobs/{job_id}": {200: _IN_FULL},
    "DELETE /v1/jobs/{job_id}": {
        200: {"object": "job", "id": JOB_ID, "deleted": True, "purged": True, "freed_bytes": 19_126_000_000}
    },
    "GET /v1/jobs/{job_id}/steps": {200: page(_FIRST_STEP, _STEP)},
    "GET /v1/jobs/{job_id}/attempts": {200: page(_PREPARED, _LOST, _TRAINING)},
    "POST /v1/jobs/{job_id}/cancel": {200: _CANCELLED, 202: _CANCELLING},
    "POST /v1/jobs/{job_id}/pause": {200: _PAUSED, 202: _PAUSING},
    "POST /v1/jobs/{job_id}/resume": {200: JOB, 202: _RESUMED},
    "POST /v1/jobs/{job_id}/retry": {202: _RESUMED},
    "POST /v1/jobs/{job_id}/clone": {201: _CLONE},
}
