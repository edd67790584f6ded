"""A file on its way, in parts."""

from collections.abc import Mapping
from typing import Any, Final

from app.api_examples.files import CREATED_FILE
from app.api_examples.story import CORPUS_SHA256, FILE_ID, UPLOADED_AT, page

_UPLOAD_ID: Final = "upload-01m8k2sy4ybhnbp789pes4bed9"
_PART: Final[dict[str, Any]] = {
    "id": "part-01m8k2t14y9dcnmyy4vnsppmfn",
    "object": "upload.part",
    "created_at": UPLOADED_AT - 20,
    "upload_id": _UPLOAD_ID,
    "bytes": 67_108_864,
    "sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
}
_UPLOAD: Final[dict[str, Any]] = {
    "id": _UPLOAD_ID,
    "object": "upload",
    "bytes": 73_400_320,
    "created_at": UPLOADED_AT - 30,
    "expires_at": UPLOADED_AT + 86_400,
    "filename": "prose.jsonl.zst",
    "purpose": "corpus",
    "status": "pending",
    "mime_type": "application/zstd",
    "sha256": CORPUS_SHA256,
    "file_id": None,
}
_COMPLETED: Final[dict[str, Any]] = {
    **_UPLOAD,
    "status": "completed",
    "file_id": FILE_ID,
    "file": CREATED_FILE,
}
_CANCELLED: Final[dict[str, Any]] = {**_UPLOAD, "status": "cancelled", "file": None}

UPLOAD_ANSWERS: Final[Mapping[str, Mapping[int, Any]]] = {
    "POST /v1/uploads": {201: {**_UPLOAD, "parts": []}},
    "GET /v1/uploads": {200: page(_UPLOAD)},
    "GET /v1/uploads/{upload_id}": {200: {**_UPLOAD, "parts": [_PART]}},
    "POST /v1/uploads/{upload_id}/parts": {201: _PART},
    "POST /v1/uploads/{upload_id}/complete": {200: _COMPLETED},
    "POST /v1/uploads/{upload_id}/cancel": {200: _CANCELLED},
}
