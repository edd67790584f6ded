"""Receives bytes: straight to a file beside the store, digested and limited while they arrive.

The body is either `multipart/form-data` in OpenAI's shape or the bytes themselves. Starlette's own form
parser has no limit on a file and keeps it in the system's temporary folder, so the parts are taken here.
"""

import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from app.errors import ApiError, BadRequest, ContentTooLarge
from fusion.failpoints import failpoint

_WRITE_BYTES = 1 << 20
_MAX_FIELD_BYTES = 4096
_MAX_PARTS = 16
_MAX_FORM_BYTES = 1 << 20
"""What the form around a file may take, when its size is told beforehand."""
UPLOAD_PREFIX = "upload-"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceivedFile:
    """Bytes that arrived whole, on the local disk. `filename` and `fields` are as the client sent them."""

    path: Path
    size: int
    sha256: str
    filename: str | None
    fields: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class ByteLimit:
    """How many bytes may come, and what is said to one more."""

    max_bytes: int
    refusal: ApiError


def limit_of_service(max_bytes: int) -> ByteLimit:
    """The largest body that the service takes, whoever sends it."""
    refusal = ContentTooLarge(
        f"more than {max_bytes} bytes, the most that is accepted here", code="file_too_large"
    )
    return ByteLimit(max_bytes=max_bytes, refusal=refusal)


@dataclass(kw_only=True)
class _Sink:
    """Takes the bytes of the file."""

    file: IO[bytes]
    limit: "ByteLimit"
    size: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self.limit.max_bytes:
            raise self.limit.refusal
        self.digest.update(data)
        self.file.write(data)


class _MultipartForm:
    """Callbacks of the multipart parser: small fields to memory, the file part to the sink."""

    def __init__(self, sink: _Sink, *, boundary: bytes, file_field: str) -> None:
        self._file_field = file_field
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self._sink = sink
        self._is_complete = False
        self._num_parts = 0
        self._part_name = ""
        self._part_value: bytearray | None = bytearray()
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        self._parser = MultipartParser(
            boundary,
            callbacks={
                "on_part_begin": self._begin_part,
                "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._start_value,
                "on_part_data": self._take_data,
                "on_part_end": self._end_part,
                "on_end": self._end_form,
            },
        )

    def write(self, data: bytes) -> None:
        self._parser.write(data)

    def finish(self) -> None:
        self._parser.finalize()
        if not self._is_complete:
            raise _malformed("the form ends before its closing boundary: the upload was cut off")
        if self.filename is None:
            raise _malformed(f"the form has no file part named {self._file_field!r}")

    def _begin_part(self) -> None:
        self._num_parts += 1
        if self._num_parts > _MAX_PARTS:
            raise _malformed(f"the form has more than {_MAX_PARTS} parts")
        self._disposition = b""

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _start_value(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._part_name = options.get(b"name", b"").decode(errors="replace")
        if b"filename" not in options:
            self._part_value = bytearray()
            return
        if self._part_name != self._file_field or self.filename is not None:
            raise _malformed(f"send one file, in the part named {self._file_field!r}")
        self.filename = options[b"filename"].decode(errors="replace")
        self._part_value = None

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._part_value is None:
            self._sink.write(data[start:end])
            return
        self._part_value.extend(data[start:end])
        if len(self._part_value) > _MAX_FIELD_BYTES:
            raise _malformed(f"field {self._part_name!r} is longer than {_MAX_FIELD_BYTES} bytes")

    def _end_part(self) -> None:
        if self._part_value is not None:
            self.fields[self._part_name] = self._part_value.decode(errors="replace")

    def _end_form(self) -> None:
        self._is_complete = True


@asynccontextmanager
async def receive_file(
    request: Request, *, folder: Path, limit: ByteLimit, file_field: str = "file"
) -> AsyncIterator[ReceivedFile]:
    """Read the body to a file in `folder`, which is removed when the block ends.

    Args:
        file_field: name of the part of a form that holds the bytes.

    Raises:
        ApiError: the limit's, as soon as one byte too many is announced or arrives; what follows is not read.
        BadRequest: a broken form, or a client that went away.
    """
    _check_announced_size(request, limit)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=UPLOAD_PREFIX, dir=folder)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            sink = _Sink(file=file, limit=limit)
            received = await _receive(request, sink, path=path, file_field=file_field)
        failpoint("upload.received")
        yield received
    finally:
        path.unlink(missing_ok=True)


def _check_announced_size(request: Request, limit: ByteLimit) -> None:
    """Refuse at once what says that it is too large. What says nothing, or lies, is counted as it comes."""
    announced = request.headers.get("content-length", "")
    is_form = request.headers.get("content-type", "").startswith("multipart/")
    if announced.isdecimal() and int(announced) > limit.max_bytes + (_MAX_FORM_BYTES if is_form else 0):
        raise limit.refusal


async def _receive(request: Request, sink: _Sink, *, path: Path, file_field: str) -> ReceivedFile:
    media_type, options = parse_options_header(request.headers.get("content-type"))
    if media_type != b"multipart/form-data":
        await _feed(request, sink.write)
        return ReceivedFile(
            path=path, size=sink.size, sha256=sink.digest.hexdigest(), filename=None, fields={}
        )
    if b"boundary" not in options:
        raise _malformed("the content type names no boundary")
    try:
        form = _MultipartForm(sink, boundary=options[b"boundary"], file_field=file_field)
        await _feed(request, form.write)
        form.finish()
    except FormParserError as error:
        raise _malformed(f"the body is not multipart/form-data: {error}") from error
    return ReceivedFile(
        path=path, size=sink.size, sha256=sink.digest.hexdigest(), filename=form.filename, fields=form.fields
    )


async def _feed(request: Request, write: Callable[[bytes], None]) -> None:
    """Pass the body on in large pieces, off the event loop, which digesting would hold up for everybody."""
    waiting = bytearray()
    try:
        async for chunk in request.stream():
            waiting += chunk
            if len(waiting) >= _WRITE_BYTES:
                await run_in_threadpool(write, bytes(waiting))
                waiting.clear()
    except ClientDisconnect as error:
        raise BadRequest(
            "the client went away before all bytes had arrived", code="upload_cut_off"
        ) from error
    if waiting:
        await run_in_threadpool(write, bytes(waiting))


def _malformed(detail: str) -> BadRequest:
    return BadRequest(detail, code="upload_malformed")
