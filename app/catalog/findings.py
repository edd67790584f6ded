"""What a check finds out about an uploaded file."""

from dataclasses import dataclass
from typing import Final, Literal

Purpose = Literal["corpus", "fine-tune", "spec", "fusion-spec"]
"""`fine-tune` is OpenAI's word for a corpus, and means the same here; so does `fusion-spec` for a spec, which
says among OpenAI's purposes whose spec it is."""
SPEC_PURPOSES: Final = frozenset({"spec", "fusion-spec"})
FileFormat = Literal["jsonl", "text", "parquet", "spec"]

NUM_FIELDS_KEPT = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class FileProblem:
    """The first thing wrong with a file, where a place is to blame: `line` from 1, `byte` from 0.

    Places are those of the text, also where the file is compressed.
    """

    code: str
    message: str
    hint: str
    line: int | None = None
    byte: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFacts:
    """What a file without a problem holds.

    num_records: lines of JSON, rows, or lines of text. fields: of the first record, or columns.
    num_text_bytes: size of the text itself, for a compressed file.
    """

    format: FileFormat
    num_records: int | None = None
    fields: tuple[str, ...] = ()
    num_text_bytes: int | None = None


class Refused(Exception):
    """Ends a check with its problem."""

    def __init__(self, problem: FileProblem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def refused(
    code: str, message: str, *, hint: str, line: int | None = None, byte: int | None = None
) -> Refused:
    return Refused(FileProblem(code=code, message=message, hint=hint, line=line, byte=byte))


def empty() -> Refused:
    """No text in it."""
    return refused("corpus_empty", "the file holds no text", hint="upload a file with at least one document")


def not_utf8(error: UnicodeDecodeError, *, line: int, byte: int) -> Refused:
    """`byte`: offset in the text of the byte that `error` stopped at."""
    return refused(
        "corpus_not_utf8",
        f"line {line}: byte 0x{error.object[error.start]:02x} at offset {byte} of the text is not UTF-8",
        hint="convert the file, for example: iconv -f latin1 -t utf-8 old > new",
        line=line,
        byte=byte,
    )
