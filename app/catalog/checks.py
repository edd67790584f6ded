"""Checks a file on arrival, so that a broken line is reported at upload and not when a job reads it.

Torch-free, in pieces, with bounded memory. Formats and codes are those of the engine, which reads the corpus
again and has the last word.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from app.catalog.findings import (
    NUM_FIELDS_KEPT,
    SPEC_PURPOSES,
    FileFacts,
    FileFormat,
    FileProblem,
    Purpose,
    Refused,
    empty,
    not_utf8,
    refused,
)
from app.catalog.parquet_footer import MAGIC, MAX_FOOTER_BYTES, TAIL_BYTES, FooterUnreadable, parse_footer
from app.catalog.text_checks import check_jsonl, check_text
from app.storage.byte_source import ByteSource
from fusion.compression import (
    ALWAYS_ALLOWED_BYTES,
    MAX_RATIO,
    as_file,
    compression_of,
    decompressed,
    uncompressed_name,
)
from fusion.errors import CorpusInvalid, SpecInvalid
from fusion.spec_text import parse_spec

MAX_SPEC_BYTES: Final = 4 << 20
_SNIFFED_BYTES: Final = 1024
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_FORMAT_OF_SUFFIX: Final[dict[str, FileFormat]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".parquet": "parquet",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Either what the file holds, or the first thing wrong with it."""

    facts: FileFacts | None = None
    problem: FileProblem | None = None


class CheckTooLong(Exception):
    """There is more text than was to be read."""


def check_uploaded_file(
    source: ByteSource, *, filename: str, purpose: Purpose, max_text_bytes: int | None = None
) -> Finding:
    """Read a file once and say what is in it.

    Raises:
        CheckTooLong: it holds more text than `max_text_bytes`, and nothing wrong up to there.
    """
    try:
        facts = _check(source, filename=filename, purpose=purpose, max_text_bytes=max_text_bytes)
        return Finding(facts=facts)
    except Refused as error:
        return Finding(problem=error.problem)
    except CorpusInvalid as error:
        hint = error.hint or "mend the file and upload it again"
        return Finding(problem=FileProblem(code=error.code, message=error.message, hint=hint))


def _check(source: ByteSource, *, filename: str, purpose: Purpose, max_text_bytes: int | None) -> FileFacts:
    if purpose in SPEC_PURPOSES:
        return _check_spec(source)
    pieces, compression = source.pieces(), compression_of(filename)
    if compression is not None:
        pieces = decompressed(pieces, compression=compression, name=filename)
    first = next(pieces, b"")
    kind = _FORMAT_OF_SUFFIX.get(PurePosixPath(uncompressed_name(filename).lower()).suffix) or _sniff(first)
    if kind == "parquet":
        return _check_parquet(source, is_compressed=compression is not None)
    pieces = itertools.chain([first], pieces)
    text = as_file(pieces if max_text_bytes is None else _at_most(pieces, max_bytes=max_text_bytes))
    return check_jsonl(text) if kind == "jsonl" else check_text(text)


def _at_most(pieces: Iterator[bytes], *, max_bytes: int) -> Iterator[bytes]:
    num_bytes = 0
    for piece in pieces:
        num_bytes += len(piece)
        if num_bytes > max_bytes:
            raise CheckTooLong
        yield piece


def _sniff(start: bytes) -> FileFormat:
    if start.startswith(MAGIC):
        return "parquet"
    start = start[:_SNIFFED_BYTES].removeprefix(_BYTE_ORDER_MARK).lstrip()
    return "jsonl" if start.startswith(b"{") else "text"


def _check_parquet(source: ByteSource, *, is_compressed: bool) -> FileFacts:
    if is_compressed:
        raise _broken_parquet(
            "a Parquet file that is compressed once more cannot be read",
            hint="upload the Parquet file itself: its columns are compressed inside",
        )
    if source.size == 0:
        raise empty()
    tail = source.read(max(source.size - TAIL_BYTES, 0), source.size)
    if source.size < 12 or source.read(0, len(MAGIC)) != MAGIC or not tail.endswith(MAGIC):
        raise _broken_parquet("the file does not start and end with the Parquet mark PAR1")
    length = int.from_bytes(tail[:4], "little")
    start = source.size - TAIL_BYTES - length
    if start < len(MAGIC) or length > MAX_FOOTER_BYTES:
        raise _broken_parquet(f"its footer of {length} bytes does not fit into it, or is too long")
    try:
        footer = parse_footer(source.read(start, start + length))
    except FooterUnreadable as error:
        raise _broken_parquet(str(error)) from error
    if not footer.num_rows:
        raise empty()
    if not footer.text_columns:
        raise refused(
            "corpus_field_missing",
            f"no column holds text; the columns are: {', '.join(footer.columns[:20])}",
            hint="write the documents to a column of strings",
        )
    if footer.num_bytes > max(ALWAYS_ALLOWED_BYTES, MAX_RATIO * source.size):
        raise refused(
            "corpus_decompression_limit",
            f"{source.size} bytes would become {footer.num_bytes}, at most {MAX_RATIO} times as many may",
            hint="if this is your text, remove its repetitions, or upload it as JSON lines",
        )
    return FileFacts(
        format="parquet",
        num_records=footer.num_rows,
        fields=footer.columns[:NUM_FIELDS_KEPT],
        num_text_bytes=footer.num_bytes,
    )


def _check_spec(source: ByteSource) -> FileFacts:
    if source.size == 0:
        raise empty()
    if source.size > MAX_SPEC_BYTES:
        raise refused(
            "spec_too_large",
            f"a spec of {source.size} bytes, at most {MAX_SPEC_BYTES}",
            hint="is this a corpus? upload it with purpose=corpus",
        )
    try:
        parse_spec(source.read(0, source.size).decode("utf-8"))
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise not_utf8(error, line=line, byte=error.start) from error
    except SpecInvalid as error:
        hint = error.hint or "the schema of every field: GET /v1/schemas/fusion-spec"
        raise refused(error.code, error.message, hint=hint) from error
    return FileFacts(format="spec")


def _broken_parquet(
    message: str, *, hint: str = "the upload was cut off, or the file has another format; write it again"
) -> Refused:
    return refused("corpus_broken_file", message, hint=hint)
