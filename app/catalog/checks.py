"""Checks a file on arrival, so that a broken line is reported at upload and not when a job reads it.

Torch-free, line by line, with bounded memory. Formats and codes are those of the engine, which reads the
corpus again and has the last word.
"""

import codecs
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from fusion.errors import SpecInvalid
from fusion.spec_text import parse_spec

Purpose = Literal["corpus", "spec"]
FileFormat = Literal["jsonl", "text", "parquet", "spec"]

MAX_LINE_BYTES = 64 << 20
MAX_SPEC_BYTES = 4 << 20
_READ_BYTES = 1 << 20
_PARQUET_MAGIC = b"PAR1"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_FORMAT_OF_SUFFIX: dict[str, FileFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".parquet": "parquet",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FileProblem:
    """The first thing wrong with a file. `line` counts from 1, where a line is to blame."""

    code: str
    message: str
    hint: str
    line: int | None = None


def check_uploaded_file(path: Path, *, filename: str, purpose: Purpose) -> FileProblem | None:
    """The first problem of a file, or `None` when it can be used."""
    match _format_of(path, filename=filename, purpose=purpose):
        case "spec":
            return _check_spec(path)
        case "parquet":
            return _check_parquet(path)
        case "jsonl":
            return _check_jsonl(path)
        case "text":
            return _check_text(path)


def _format_of(path: Path, *, filename: str, purpose: Purpose) -> FileFormat:
    if purpose == "spec":
        return "spec"
    known = _FORMAT_OF_SUFFIX.get(PurePosixPath(filename.lower()).suffix)
    if known is not None:
        return known
    with path.open("rb") as file:
        start = file.read(1024)
    if start.startswith(_PARQUET_MAGIC):
        return "parquet"
    return "jsonl" if start.removeprefix(_BYTE_ORDER_MARK).lstrip().startswith(b"{") else "text"


def _check_jsonl(path: Path) -> FileProblem | None:
    num_records = 0
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if number == 1:
                raw = raw.removeprefix(_BYTE_ORDER_MARK)
            if not raw.strip():
                continue
            problem = _check_record(raw, line=number)
            if problem is not None:
                return problem
            num_records += 1
    return None if num_records else _empty()


def _check_record(raw: bytes, *, line: int) -> FileProblem | None:
    if len(raw) > MAX_LINE_BYTES:
        return FileProblem(
            code="corpus_broken_line",
            message=f"line {line} is longer than {MAX_LINE_BYTES} bytes",
            hint="one record per line; is this a single JSON document instead of JSON lines?",
            line=line,
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return _not_utf8(line=line, byte=error.start)
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        return FileProblem(
            code="corpus_broken_line",
            message=f"line {line} is not JSON: {error}",
            hint='every line is one JSON object, for example {"text": "..."}',
            line=line,
        )
    if not isinstance(record, dict):
        return FileProblem(
            code="corpus_broken_line",
            message=f"line {line} holds a JSON {type(record).__name__}, expected an object",
            hint='every line is one JSON object, for example {"text": "..."}',
            line=line,
        )
    return None


def _check_text(path: Path) -> FileProblem | None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    num_lines, has_text = 1, False
    with path.open("rb") as file:
        while True:
            chunk = file.read(_READ_BYTES)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                before = error.object[: error.start]
                return _not_utf8(line=num_lines + before.count(b"\n"), byte=None)
            if not chunk:
                return None if has_text else _empty()
            num_lines += text.count("\n")
            has_text = has_text or bool(text.strip().strip("\ufeff"))


def _check_parquet(path: Path) -> FileProblem | None:
    size = path.stat().st_size
    if size == 0:
        return _empty()
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(size - 4, 0))
        tail = file.read(4)
    if size < 12 or head != _PARQUET_MAGIC or tail != _PARQUET_MAGIC:
        return FileProblem(
            code="corpus_broken_file",
            message="the file does not start and end with the Parquet mark PAR1",
            hint="the upload was cut off, or the file has another format; write it again and upload it whole",
        )
    return None


def _check_spec(path: Path) -> FileProblem | None:
    size = path.stat().st_size
    if size == 0:
        return _empty()
    if size > MAX_SPEC_BYTES:
        return FileProblem(
            code="spec_too_large",
            message=f"a spec of {size} bytes, at most {MAX_SPEC_BYTES}",
            hint="is this a corpus? upload it with purpose=corpus",
        )
    try:
        parse_spec(path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError as error:
        return _not_utf8(line=error.object[: error.start].count(b"\n") + 1, byte=None)
    except SpecInvalid as error:
        return FileProblem(
            code=error.code, message=error.message, hint=error.hint or "see the schema of the spec"
        )
    return None


def _empty() -> FileProblem:
    return FileProblem(
        code="corpus_empty",
        message="the file holds no text",
        hint="upload a file with at least one document",
    )


def _not_utf8(*, line: int, byte: int | None) -> FileProblem:
    where = f"line {line}" if byte is None else f"line {line}, byte {byte}"
    return FileProblem(
        code="corpus_not_utf8",
        message=f"{where}: not UTF-8",
        hint="convert the file, for example: iconv -f latin1 -t utf-8 old > new",
        line=line,
    )
