"""Checks of JSON lines and plain text, front to back, with bounded memory."""

import codecs
import json
from typing import Any, BinaryIO, Final

from pydantic import TypeAdapter, ValidationError

from app.catalog.findings import NUM_FIELDS_KEPT, FileFacts, Refused, empty, not_utf8, refused

MAX_LINE_BYTES: Final = 16 << 20
"""JSON of this size, all brackets, takes some hundred megabytes when it is parsed."""
_READ_BYTES: Final = 1 << 20
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_as_object: Final = TypeAdapter(dict[str, Any]).validate_json
_RECORD_HINT: Final = 'every line is one JSON object, for example {"text": "..."}'


def check_jsonl(file: BinaryIO) -> FileFacts:
    """One JSON object per line; blank lines do not count.

    Raises:
        Refused: names the first line that is none.
    """
    num_records = number = offset = 0
    fields: tuple[str, ...] = ()
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        start = offset
        offset += len(raw)
        if raw == b"\n":  # a file may hold a hundred million of them
            continue
        if number == 1 and raw.startswith(_BYTE_ORDER_MARK):
            raw, start = raw.removeprefix(_BYTE_ORDER_MARK), len(_BYTE_ORDER_MARK)
        try:
            record = _as_object(raw)
        except ValidationError:
            if not raw.strip():
                continue
            record = _record(raw, line=number, offset=start)
        num_records += 1
        if num_records == 1:
            fields = tuple(record)[:NUM_FIELDS_KEPT]
    if not num_records:
        raise empty()
    return FileFacts(format="jsonl", num_records=num_records, fields=fields, num_text_bytes=offset)


def check_text(file: BinaryIO) -> FileFacts:
    """UTF-8 with something to read in it.

    Raises:
        Refused: names the line and the byte where it stops being text.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    num_line_ends = num_bytes = 0
    has_text = False
    chunk = b"."
    while chunk:
        chunk = file.read(_READ_BYTES)
        num_bytes += len(chunk)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].count(b"\n")
            offset = num_bytes - len(error.object) + error.start
            raise not_utf8(error, line=num_line_ends + before + 1, byte=offset) from error
        num_line_ends += text.count("\n")
        has_text = has_text or bool(text.strip().strip("\ufeff"))
    if not has_text:
        raise empty()
    return FileFacts(format="text", num_records=num_line_ends, num_text_bytes=num_bytes)


def _record(raw: bytes, *, line: int, offset: int) -> dict[str, Any]:
    """Read a line as the engine does, which is slower, and says exactly what is wrong."""
    if len(raw) > MAX_LINE_BYTES:
        raise _broken(
            line,
            f"is longer than {MAX_LINE_BYTES} bytes",
            hint="one record per line; is this a single JSON document instead of JSON lines?",
        )
    try:
        record = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise not_utf8(error, line=line, byte=offset + error.start) from error
    except (ValueError, RecursionError) as error:
        raise _broken(line, f"is not JSON: {error}", hint=_RECORD_HINT) from error
    if not isinstance(record, dict):
        what = f"holds a JSON {type(record).__name__}, expected an object"
        raise _broken(line, what, hint=_RECORD_HINT)
    _require_whole_characters(record, line=line)
    return record


def _require_whole_characters(record: dict[str, Any], *, line: int) -> None:
    """JSON can spell half of a surrogate pair (`\\ud800`), which no UTF-8 expresses."""
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        character = f"U+{ord(error.object[error.start]):04X}"
        raise refused(
            "corpus_not_utf8",
            f"line {line} holds half of a character ({character})",
            hint="write the record again from its origin as valid UTF-8",
            line=line,
        ) from error


def _broken(line: int, what: str, *, hint: str) -> Refused:
    return refused("corpus_broken_line", f"line {line} {what}", hint=hint, line=line)
