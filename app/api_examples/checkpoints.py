"""A checkpoint of the training, and its promotion."""

from collections.abc import Mapping
from typing import Any, Final

from app.api_examples.story import (
    CHECKPOINT_AT,
    CHECKPOINT_DIGEST,
    CHECKPOINT_ID,
    CONFIG_SHA256,
    JOB_ID,
    NOW,
    PROMOTED_ID,
    TRAIN_ID,
    WEIGHTS_SHA256,
    page,
)

_CHECKPOINT: Final[dict[str, Any]] = {
    "id": CHECKPOINT_ID,
    "object": "checkpoint",
    "job_id": JOB_ID,
    "step_id": TRAIN_ID,
    "step_name": "train.fused",
    "attempt": 2,
    "step": 800,
    "num_tokens": 52_428_800,
    "metrics": {"loss": 2.31, "clm_loss": 2.28, "grad_norm": 0.7, "learning_rate": 1e-05},
    "num_bytes": 80_861_300_000,
    "num_files": 31,
    "digest": CHECKPOINT_DIGEST,
    "is_resumable": True,
    "is_promotable": True,
    "is_best": True,
    "is_last": True,
    "model_id": None,
    "created_at": CHECKPOINT_AT,
}


def _file(path: str, size: int, sha256: str) -> dict[str, Any]:
    url = f"/v1/artifacts/{CHECKPOINT_ID}/content?path={path.replace('/', '%2F')}"
    return {"path": path, "size": size, "sha256": sha256, "content_url": url}


_RUNNING: Final[dict[str, Any]] = {
    "object": "promotion",
    "checkpoint_id": CHECKPOINT_ID,
    "job_id": JOB_ID,
    "name": "wise-800",
    "status": "running",
    "num_bytes": 26_953_752_576,
    "num_bytes_read": 4_294_967_296,
    "model_id": None,
    "error": None,
    "created_at": NOW,
    "finished_at": None,
}
_QUEUED: Final[dict[str, Any]] = {**_RUNNING, "status": "queued", "num_bytes_read": 0}
_DONE: Final[dict[str, Any]] = {
    **_RUNNING,
    "status": "succeeded",
    "num_bytes_read": 26_953_752_576,
    "model_id": PROMOTED_ID,
    "finished_at": NOW + 60,
}

CHECKPOINT_ANSWERS: Final[Mapping[str, Mapping[int, Any]]] = {
    "GET /v1/jobs/{job_id}/checkpoints": {200: page(_CHECKPOINT)},
    "GET /v1/checkpoints/{checkpoint_id}": {
        200: {
            **_CHECKPOINT,
            "files": [
                _file("model/config.json", 651, CONFIG_SHA256),
                _file("model/model-00001-of-00006.safetensors", 4_985_532_416, WEIGHTS_SHA256),
            ],
        }
    },
    "POST /v1/checkpoints/{checkpoint_id}/promote": {200: _DONE, 202: _QUEUED},
    "GET /v1/checkpoints/{checkpoint_id}/promotion": {200: _RUNNING},
}
