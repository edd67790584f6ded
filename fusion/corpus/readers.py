"""Reading corpus files record by record, in flat memory, knowing the place of every record.

JSONL and text may be compressed (`.gz`, `.zst`, `.xz`); Parquet compresses itself.

A plain text file becomes documents of whole lines: one ends at the first blank line after 4 KiB, or after
64 KiB at any line end; a line of 16 MiB is cut. Concatenated, the documents are the file.
"""

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from fusion.compression import compression_of, open_uncompressed, require_proportion, uncompressed_name
from fusion.errors import CorpusInvalid

Format = Literal["jsonl", "text", "parquet"]

_FORMAT_OF_SUFFIX: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".parquet": "parquet",
}
_UTF8_MARK = b"\xef\xbb\xbf"
_MIN_DOCUMENT_BYTES = 4 << 10
_MAX_DOCUMENT_BYTES = 64 << 10
MAX_RECORD_BYTES = 16 << 20
"""Of a line, or of what is read of a row: some four million tokens. More of it takes a machine's memory."""
_ROWS_PER_READ = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One record of a JSONL or Parquet file or a dataset. `place` names it for people."""

    place: str
    fields: dict[str, Any]


def format_of(path: Path) -> Format:
    """Format by the file's name without the ending of a compression, else by its first bytes."""
    known = _FORMAT_OF_SUFFIX.get(Path(uncompressed_name(path.name)).suffix.lower())
    if known is not None:
        return known
    with open_uncompressed(path) as file:
        start = file.read(1024)
    if start.startswith(b"PAR1"):
        return "parquet"
    return "jsonl" if start.removeprefix(_UTF8_MARK).lstrip().startswith(b"{") else "text"


def read_jsonl(path: Path, *, pointer: str) -> Iterator[Record]:
    """One object per line; blank lines are skipped.

    Raises:
        CorpusInvalid: a line is not UTF-8, not a JSON object, or too long.
    """
    for number, line, is_whole in _lines(path, pointer=pointer):
        if not line.strip():
            continue
        place = f"{path.name} line {number}"
        if not is_whole:
            raise record_too_long(place, pointer=pointer)
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _broken_line(place, str(error), pointer=pointer) from error
        if not isinstance(fields, dict):
            raise _broken_line(place, f"holds {type(fields).__name__}, not an object", pointer=pointer)
        yield Record(place=place, fields=fields)


def read_text(path: Path, *, pointer: str) -> Iterator[tuple[str, str]]:
    """(place, text) of the documents of a plain text file.

    Raises:
        CorpusInvalid: a line is not UTF-8.
    """
    lines: list[str] = []
    first, num_bytes = 1, 0
    for number, line, is_whole in _lines(path, pointer=pointer):
        lines.append(line)
        num_bytes += len(line.encode())
        at_paragraph = not line.strip() and num_bytes >= _MIN_DOCUMENT_BYTES
        if at_paragraph or num_bytes >= _MAX_DOCUMENT_BYTES:
            yield f"{path.name} line {first}", "".join(lines)
            lines, first, num_bytes = [], number + is_whole, 0
    if lines:
        yield f"{path.name} line {first}", "".join(lines)


def read_parquet(path: Path, *, columns: list[str], pointer: str) -> Iterator[Record]:
    """Rows of a Parquet file, with those of `columns` that it has; `fields` of others are not read.

    Raises:
        CorpusInvalid: not a Parquet file, a damaged one, it lacks the first column, text is not UTF-8, a row
            is too long, or all of it far larger than the file.
    """
    if compression_of(path.name) is not None:
        raise CorpusInvalid(
            f"{path.name} is a compressed Parquet file, which cannot be read",
            code="corpus_broken_file",
            hint="give the Parquet file itself: its columns are compressed inside",
            pointer=pointer,
        )
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise CorpusInvalid(
            f"{path.name} is not a Parquet file: {error}",
            code="corpus_broken_file",
            hint="upload the file again, or give its format",
            pointer=pointer,
        ) from error
    with file:
        present = file.schema_arrow.names
        wanted = [name for name in columns if name in present]
        if columns[0] not in present:
            raise field_missing(path.name, columns[0], present, pointer=pointer)
        num_read = num_bytes = 0
        for batch in _batches(file, columns=wanted, path=path, pointer=pointer):
            num_bytes += batch.nbytes
            require_proportion(path.name, num_read=path.stat().st_size, num_made=num_bytes, pointer=pointer)
            places = [f"{path.name} row {num_read + number}" for number in range(1, len(batch) + 1)]
            for place, fields in zip(places, _decoded(batch, places=places, pointer=pointer), strict=True):
                yield Record(place=place, fields=fields)
            num_read += len(batch)


def _batches(
    file: pq.ParquetFile, *, columns: list[str], path: Path, pointer: str
) -> Iterator[pa.RecordBatch]:
    """The rows of an open file, some at a time."""
    num_read = 0
    batches = file.iter_batches(batch_size=_ROWS_PER_READ, columns=columns)
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                # The disk failed, not the file.
                raise
            raise CorpusInvalid(
                f"{path.name} is damaged between rows {num_read + 1} and {file.metadata.num_rows}: {error}",
                code="corpus_broken_file",
                hint="copy or upload the file again, or write it again from its origin",
                pointer=pointer,
            ) from error
        if batch is None:
            return
        yield batch
        num_read += len(batch)


def _decoded(batch: pa.RecordBatch, *, places: list[str], pointer: str) -> list[dict[str, Any]]:
    """The fields of every row. Parquet promises UTF-8, but its writers do not all keep the promise."""
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except UnicodeDecodeError as error:
        if len(batch) > 1:
            # One by one, to learn which row it is.
            return [
                _decoded(batch.slice(index, 1), places=[place], pointer=pointer)[0]
                for index, place in enumerate(places)
            ]
        raise CorpusInvalid(
            f"{places[0]} is not UTF-8: byte 0x{error.object[error.start]:02x} "
            f"at position {error.start} of a field",
            code="corpus_not_utf8",
            hint="write the file again from its origin, with its text columns in UTF-8",
            pointer=pointer,
        ) from error
    return rows


def field_missing(place: str, field: str, present: list[str], *, pointer: str) -> CorpusInvalid:
    """The error for a record without the field that holds the document."""
    names = ", ".join(repr(name) for name in sorted(present)[:20]) or "none"
    return CorpusInvalid(
        f"{place} has no field {field!r}; its fields are: {names}",
        code="corpus_field_missing",
        hint="set corpus.text_field (or corpus.messages_field) to the field that holds the document",
        pointer=pointer,
    )


def record_too_long(place: str, *, pointer: str) -> CorpusInvalid:
    """The error for a document that is no document any more."""
    return CorpusInvalid(
        f"{place} is longer than {MAX_RECORD_BYTES} bytes",
        code="corpus_record_too_long",
        hint="split the document; if the file is one JSON document, write JSON lines instead",
        pointer=pointer,
    )


def _lines(path: Path, *, pointer: str) -> Iterator[tuple[int, str, bool]]:
    """Numbered lines with their ends; only LF ends a line, as JSON text may hold other separators.

    A line that is longer than `MAX_RECORD_BYTES` comes in pieces, of which only the last one may be whole.
    """
    number = 1
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_uncompressed(path, pointer=pointer) as file:
        raw = file.readline(MAX_RECORD_BYTES).removeprefix(_UTF8_MARK)
        while raw:
            following = b"" if raw.endswith(b"\n") else file.readline(MAX_RECORD_BYTES)
            is_whole = not following
            try:
                text = decoder.decode(raw, final=is_whole)
            except UnicodeDecodeError as error:
                raise CorpusInvalid(
                    f"{path.name} line {number} is not UTF-8: byte 0x{error.object[error.start]:02x} "
                    f"at position {error.start} of the line",
                    code="corpus_not_utf8",
                    hint="convert the file: iconv -f <its encoding> -t utf-8",
                    pointer=pointer,
                ) from error
            yield number, text, is_whole
            number += is_whole
            raw = following or file.readline(MAX_RECORD_BYTES)


def _broken_line(place: str, reason: str, *, pointer: str) -> CorpusInvalid:
    return CorpusInvalid(
        f"{place}: not a JSON object: {reason}",
        code="corpus_broken_line",
        hint="write one JSON object per line, or set the file's format to text",
        pointer=pointer,
    )
