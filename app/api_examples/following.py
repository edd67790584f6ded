"""History and curves of a job."""

from collections.abc import Mapping
from typing import Any, Final

from app.api_examples.story import (
    JOB_ID,
    PREPARE_ID,
    PREPARED_AT,
    PREPARED_ID,
    STARTED_AT,
    SUBMITTED_AT,
    page,
)


def _event(seq: int, event_id: str, event_type: str, message: str, **more: Any) -> dict[str, Any]:
    return {
        "object": "event",
        "id": event_id,
        "job_id": JOB_ID,
        "seq": seq,
        "type": event_type,
        "step_id": None,
        "attempt": None,
        "message": message,
        "details": {},
        "created_at": STARTED_AT,
        **more,
    }


_EVENTS: Final = (
    _event(
        4,
        "evt-01m8k35b4y4cw8m910kf6ftgbd",
        "step_succeeded",
        "prepare succeeded",
        step_id=PREPARE_ID,
        attempt=1,
        details={"artifact_id": PREPARED_ID},
        created_at=PREPARED_AT,
    ),
    _event(
        3,
        "evt-01m8k32904kw73b1jett7cfb76",
        "job_status_changed",
        "job is running",
        details={"from": "queued", "to": "running"},
    ),
    _event(
        2,
        "evt-01m8k329037fyh8yzt73qqjbf7",
        "step_started",
        "prepare started (attempt 1)",
        step_id=PREPARE_ID,
        attempt=1,
        details={"worker_id": "node-3-7f2a"},
    ),
    _event(
        1,
        "evt-01m8k3235x19rnps99yadpc8r9",
        "job_submitted",
        "job submitted",
        details={"steps": 8},
        created_at=SUBMITTED_AT,
    ),
)
_CURVES: Final[dict[str, Any]] = {
    "object": "metrics",
    "job_id": JOB_ID,
    "x": "step",
    "series": {
        "train.fused/loss": {
            "x": [10, 20],
            "y": [3.1, 2.8],
            "min": [3.1, 2.8],
            "max": [3.1, 2.8],
            "last": 2.8,
            "best": 2.8,
            "n": 2,
            "downsampled": False,
            "nonfinite": [],
            "attempts": [{"attempt": 1, "step": 10, "index": 0}],
        }
    },
    "removed_until": 0,
    "next_since": 2,
}

FOLLOWING_ANSWERS: Final[Mapping[str, Mapping[int, Any]]] = {
    "GET /v1/jobs/{job_id}/events": {200: page(*_EVENTS)},
    "GET /v1/jobs/{job_id}/metrics": {200: _CURVES},
}
