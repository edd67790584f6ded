"""The text that the job reads."""

from collections.abc import Mapping
from typing import Any, Final

from app.api_examples.story import CORPUS_SHA256, FILE_ID, UPLOADED_AT, page

_FILE: Final[dict[str, Any]] = {
    "id": FILE_ID,
    "object": "file",
    "bytes": 73_400_320,
    "created_at": UPLOADED_AT,
    "expires_at": None,
    "filename": "prose.jsonl.zst",
    "purpose": "corpus",
    "status": "processed",
    "status_details": None,
    "error": None,
    "sha256": CORPUS_SHA256,
    "format": "jsonl",
    "num_records": 120_000,
    "fields": ["text", "domain"],
    "num_text_bytes": 310_000_000,
}
CREATED_FILE: Final[dict[str, Any]] = {**_FILE, "duplicate_of": None}

FILE_ANSWERS: Final[Mapping[str, Mapping[int, Any]]] = {
    "POST /v1/files": {201: CREATED_FILE},
    "GET /v1/files": {200: page(_FILE)},
    "GET /v1/files/{file_id}": {200: _FILE},
    "DELETE /v1/files/{file_id}": {200: {"id": FILE_ID, "object": "file", "deleted": True}},
}
