"""The fused model as it is stored."""

from collections.abc import Mapping
from typing import Any, Final

from app.api_examples.story import (
    CONFIG_SHA256,
    FUSED_AT,
    FUSED_DIGEST,
    FUSED_ID,
    JOB_ID,
    WEIGHTS_SHA256,
    page,
)

_WEIGHTS_BYTES: Final = 4_938_985_352
FUSED_BYTES: Final = 13_478_104_576
_ARTIFACT: Final[dict[str, Any]] = {
    "id": FUSED_ID,
    "object": "artifact",
    "job_id": JOB_ID,
    "step_id": "step-01m8k3235z3bmx48exn64t9qne",
    "attempt": 1,
    "kind": "model",
    "role": "publish",
    "format": "model",
    "digest": FUSED_DIGEST,
    "num_bytes": FUSED_BYTES,
    "num_files": 11,
    "created_at": FUSED_AT,
}


def _file(path: str, size: int, sha256: str) -> dict[str, Any]:
    url = f"/v1/artifacts/{FUSED_ID}/content?path={path}"
    return {"path": path, "size": size, "sha256": sha256, "content_url": url}


FUSED_FILES: Final = [
    _file("config.json", 651, CONFIG_SHA256),
    _file("model-00001-of-00003.safetensors", _WEIGHTS_BYTES, WEIGHTS_SHA256),
]
_DOWNLOAD: Final[dict[str, Any]] = {
    "object": "download_url",
    "url": "https://fusion.example.com/v1/downloads?ticket=7TjfLuKBcsXufaG4U-RMzHdjb4Vbt5lpddi9dvtyP",
    "method": "GET",
    "headers": {},
    "served_by": "api",
    "expires_at": FUSED_AT + 600,
    "path": "model-00001-of-00003.safetensors",
    "size": _WEIGHTS_BYTES,
    "sha256": WEIGHTS_SHA256,
    "etag": f'"{WEIGHTS_SHA256}"',
}

ARTIFACT_ANSWERS: Final[Mapping[str, Mapping[int, Any]]] = {
    "GET /v1/artifacts": {200: page(_ARTIFACT)},
    "GET /v1/artifacts/{artifact_id}": {
        200: {**_ARTIFACT, "meta": {"name": "wise", "job_id": JOB_ID}, "files": FUSED_FILES}
    },
    "POST /v1/artifacts/{artifact_id}/download_url": {200: _DOWNLOAD},
}
