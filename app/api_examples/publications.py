"""The fused model on its way to a hub."""

from collections.abc import Mapping
from typing import Any, Final

from app.api_examples.artifacts import FUSED_BYTES
from app.api_examples.story import FUSED_AT, JOB_ID, MODEL_ID, PUBLICATION_ID, REVISION, page

_QUEUED: Final[dict[str, Any]] = {
    "id": PUBLICATION_ID,
    "object": "publication",
    "model_id": MODEL_ID,
    "job_id": JOB_ID,
    "target": "hf",
    "destination": {
        "target": "hf",
        "repo": "org/wise-7b",
        "branch": "main",
        "private": True,
        "message": None,
        "secret": "hub-token",
    },
    "status": "queued",
    "num_bytes": FUSED_BYTES,
    "num_bytes_sent": 0,
    "num_failures": 0,
    "next_try_at": None,
    "url": None,
    "revision": None,
    "error": None,
    "created_at": FUSED_AT + 60,
    "finished_at": None,
}
_DONE: Final[dict[str, Any]] = {
    **_QUEUED,
    "status": "succeeded",
    "num_bytes_sent": FUSED_BYTES,
    "url": f"https://huggingface.co/org/wise-7b/tree/{REVISION}",
    "revision": REVISION,
    "finished_at": FUSED_AT + 900,
}
_CANCELLED: Final[dict[str, Any]] = {**_QUEUED, "status": "cancelled", "finished_at": FUSED_AT + 90}

PUBLICATION_ANSWERS: Final[Mapping[str, Mapping[int, Any]]] = {
    "POST /v1/models/{model_id}/publish": {202: _QUEUED},
    "GET /v1/publications": {200: page(_DONE)},
    "GET /v1/publications/{publication_id}": {200: _DONE},
    "POST /v1/publications/{publication_id}/cancel": {200: _CANCELLED},
}
