"""The HTTP answer that carries stored bytes; files, artifacts and models all download through it."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from app.artifacts.damage import DamagedBlobs
from app.artifacts.ranges import (
    ByteRange,
    RangeBeyondEnd,
    is_not_modified,
    parse_range,
    range_still_applies,
)
from app.db.models import ArtifactFile
from app.errors import NotFound, RangeNotSatisfiable, problem_responses
from app.storage.store import ObjectDamaged, ObjectMissing, ObjectStore, blob_key

CONTENT_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "All bytes.", "content": {"application/octet-stream": {}}},
    206: {"description": "The bytes of one range.", "content": {"application/octet-stream": {}}},
    304: {"description": "The client holds these bytes."},
    **problem_responses(NotFound, RangeNotSatisfiable),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredBytes:
    """An immutable object as a client sees it."""

    key: str
    size: int
    sha256: str
    filename: str

    @property
    def etag(self) -> str:
        """A strong validator: equal exactly for equal bytes."""
        return f'"{self.sha256}"'


def stored_bytes_of(file: ArtifactFile) -> StoredBytes:
    """One file of an artifact."""
    return StoredBytes(
        key=blob_key(project_id=file.project_id, sha256=file.sha256),
        size=file.num_bytes,
        sha256=file.sha256,
        filename=PurePosixPath(file.path).name,
    )


def download(request: Request, store: ObjectStore, stored: StoredBytes) -> Response:
    """Answer GET or HEAD: 200, 206 or 304, streamed in pieces.

    Raises:
        RangeNotSatisfiable: no byte of the range exists.
        ObjectMissing: the store lost the object; said before a status line promises bytes.
    """
    headers = _headers(stored)
    if (bodiless := _bodiless(request, stored, headers=headers)) is not None:
        return bodiless
    part = _requested_range(request, stored)
    damaged: DamagedBlobs = request.app.state.damaged_blobs
    if damaged.holds(stored.key):
        raise ObjectDamaged(
            f"the stored bytes of {stored.filename!r} are damaged", code="storage_object_damaged"
        )
    if store.size(stored.key) != stored.size:
        raise ObjectMissing(
            f"the bytes of {stored.filename!r} are not in the storage", code="storage_object_missing"
        )
    return _stream(store, stored, part=part, headers=headers, damaged=damaged)


def answer_with_bytes(request: Request, content: bytes, *, filename: str) -> Response:
    """Answer GET or HEAD with bytes that are not stored but made, the same ones every time.

    Raises:
        RangeNotSatisfiable: no byte of the range exists.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    made = StoredBytes(key="", size=len(content), sha256=sha256, filename=filename)
    headers = _headers(made)
    if (bodiless := _bodiless(request, made, headers=headers)) is not None:
        return bodiless
    part = _requested_range(request, made)
    if part is None:
        return Response(content, headers=headers)
    headers["Content-Range"] = part.content_range(made.size)
    return Response(content[part.start : part.end], status_code=206, headers=headers)


def _bodiless(request: Request, stored: StoredBytes, *, headers: dict[str, str]) -> Response | None:
    """The answer where no bytes are needed; else None."""
    if is_not_modified(request.headers.get("if-none-match"), etag=stored.etag):
        kept = {"ETag": stored.etag, "Cache-Control": headers["Cache-Control"]}
        return Response(status_code=304, headers=kept)
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Length": str(stored.size)})
    return None


def _requested_range(request: Request, stored: StoredBytes) -> ByteRange | None:
    if not range_still_applies(request.headers.get("if-range"), etag=stored.etag):
        return None
    try:
        return parse_range(request.headers.get("range"), size=stored.size)
    except RangeBeyondEnd as error:
        raise RangeNotSatisfiable(
            f"{stored.filename!r} has {stored.size} bytes; {request.headers['range']!r} lies beyond them",
            headers={"Content-Range": f"bytes */{stored.size}"},
        ) from error


def _stream(
    store: ObjectStore,
    stored: StoredBytes,
    *,
    part: ByteRange | None,
    headers: dict[str, str],
    damaged: DamagedBlobs,
) -> StreamingResponse:
    span = part or ByteRange(start=0, end=stored.size)
    pieces: Iterator[bytes] = store.open_range(stored.key, start=span.start, end=span.end)
    if span == ByteRange(start=0, end=stored.size):
        pieces = _remembering(pieces, stored, damaged)
    headers = headers | {"Content-Length": str(span.end - span.start)}
    if part is not None:
        headers["Content-Range"] = part.content_range(stored.size)
    return StreamingResponse(pieces, status_code=206 if part is not None else 200, headers=headers)


def _remembering(pieces: Iterator[bytes], stored: StoredBytes, damaged: DamagedBlobs) -> Iterator[bytes]:
    """`verified`, so that whoever was cut off here does not get the rest by asking for it as a range."""
    try:
        yield from verified(pieces, sha256=stored.sha256, name=stored.filename)
    except ObjectDamaged:
        damaged.remember(stored.key)
        raise


def verified(pieces: Iterator[bytes], *, sha256: str, name: str) -> Iterator[bytes]:
    """The pieces, of which the last one comes only when all of them are right.

    A damaged object therefore ends as a transfer that was cut off, and never as a complete answer. A range
    cannot be checked here; who asks for ranges checks the whole against `Repr-Digest` or the entity tag.

    Raises:
        ObjectDamaged: instead of the last piece.
    """
    digest, held = hashlib.sha256(), b""
    for piece in pieces:
        digest.update(piece)
        if held:
            yield held
        held = piece
    if digest.hexdigest() != sha256:
        raise ObjectDamaged(
            f"the stored bytes of {name!r} have sha256 {digest.hexdigest()}, expected {sha256}",
            code="storage_object_damaged",
        )
    yield held


def _headers(stored: StoredBytes) -> dict[str, str]:
    digest = base64.b64encode(bytes.fromhex(stored.sha256)).decode()
    return {
        "Content-Type": "application/octet-stream",
        "ETag": stored.etag,
        "Accept-Ranges": "bytes",
        "Repr-Digest": f"sha-256=:{digest}:",
        "Content-Disposition": content_disposition(stored.filename),
        "X-Content-Type-Options": "nosniff",
        # Bytes under an id never change, but only this key's owner may see them.
        "Cache-Control": "private, no-transform",
    }


def content_disposition(filename: str) -> str:
    """Save under `filename`, whatever the name holds: nothing in it can end the header (RFC 6266)."""
    ascii_name = "".join(
        char if (char.isalnum() and char.isascii()) or char in "._- " else "_" for char in filename
    )
    return f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(filename, safe='')}"
