"""Models: a checkpoint to begin with, and what the job made."""

from collections.abc import Mapping
from typing import Any, Final

from app.api_examples.artifacts import FUSED_BYTES, FUSED_FILES
from app.api_examples.story import (
    CHECKPOINT_ID,
    FUSED_AT,
    FUSED_DIGEST,
    FUSED_ID,
    JOB_ID,
    MODEL_ID,
    NOW,
    PROJECT_ID,
    PROMOTED_ID,
    REVISION,
    UPLOADED_AT,
    page,
)
from fusion.spec import ModelRef

_FUSED: Final[dict[str, Any]] = {
    "id": MODEL_ID,
    "object": "model",
    "created": FUSED_AT,
    "owned_by": PROJECT_ID,
    "name": "wise",
    "kind": "fused",
    "job_id": JOB_ID,
    "artifact_id": FUSED_ID,
    "checkpoint_id": None,
    "hub_id": f"{PROJECT_ID}/{MODEL_ID}",
    "ref": None,
}
_PROMOTED: Final[dict[str, Any]] = {
    **_FUSED,
    "id": PROMOTED_ID,
    "created": NOW + 60,
    "name": "wise-800",
    "kind": "promoted",
    "artifact_id": "art-01m8k3c34yxkhtp06nky0ddmf6",
    "checkpoint_id": CHECKPOINT_ID,
    "hub_id": f"{PROJECT_ID}/{PROMOTED_ID}",
}
_REGISTERED: Final[dict[str, Any]] = {
    **_FUSED,
    "id": "model-01m8k2n24y5szzs63trj9nm4ax",
    "created": UPLOADED_AT,
    "name": "base-7b",
    "kind": "registered",
    "job_id": None,
    "artifact_id": None,
    "hub_id": None,
    "ref": ModelRef(hub="example/base-7b", revision=REVISION).model_dump(mode="json"),
}

MODEL_ANSWERS: Final[Mapping[str, Mapping[int, Any]]] = {
    "POST /v1/models": {201: _REGISTERED},
    "GET /v1/models": {200: page(_FUSED, _PROMOTED, _REGISTERED)},
    "GET /v1/models/{model_id}": {200: _FUSED},
    "DELETE /v1/models/{model_id}": {200: {"id": MODEL_ID, "object": "model", "deleted": True}},
    "GET /v1/models/{model_id}/manifest": {
        200: {
            "id": MODEL_ID,
            "object": "model.manifest",
            "artifact_id": FUSED_ID,
            "digest": FUSED_DIGEST,
            "num_bytes": FUSED_BYTES,
            "files": FUSED_FILES,
        }
    },
}
