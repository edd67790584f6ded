"""The corpus as a stream of documents, whatever it is stored in.

Chat messages become text by one rule: the contents of the messages in order, a blank line between them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.corpus.hub_dataset import POINTER as DATASET_POINTER
from fusion.corpus.hub_dataset import dataset_files
from fusion.corpus.readers import (
    MAX_RECORD_BYTES,
    Format,
    Record,
    field_missing,
    format_of,
    read_jsonl,
    read_parquet,
    read_text,
    record_too_long,
)
from fusion.errors import CorpusInvalid, InternalError
from fusion.spec import CorpusFile, CorpusSpec

DEFAULT_DOMAIN = "default"


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """`place` names the document for people: file and line, or row."""

    text: str
    domain: str
    place: str


def iter_documents(corpus: CorpusSpec, *, files: Mapping[str, Path]) -> Iterator[Document]:
    """All documents with text, in the order of the spec and of the files.

    Args:
        files: where the uploaded files of the spec lie.

    Raises:
        CorpusInvalid: with codes corpus_file_missing, corpus_not_utf8, corpus_broken_line,
            corpus_broken_file, corpus_field_missing, corpus_field_not_text, corpus_record_too_long,
            corpus_decompression_limit, corpus_dataset_unusable.
        InfrastructureError: a dataset cannot be downloaded.
    """
    for index, file in enumerate(corpus.files):
        field = "path" if file.path is not None else "file_id"
        pointer = f"/corpus/files/{index}/{field}"
        path = corpus_path(file, files=files)
        if not path.is_file():
            raise CorpusInvalid(
                f"no corpus file at {path}",
                code="corpus_file_missing",
                hint="check the path",
                pointer=pointer,
            )
        kind = file.format or format_of(path)
        yield from _of_file(path, kind, corpus=corpus, domain=file.domain, pointer=pointer)
    if corpus.dataset is not None:
        for path, kind in dataset_files(corpus.dataset):
            domain = corpus.dataset.domain
            yield from _of_file(path, kind, corpus=corpus, domain=domain, pointer=DATASET_POINTER)


def corpus_path(file: CorpusFile, *, files: Mapping[str, Path]) -> Path:
    """Where a file of the corpus lies."""
    if file.path is not None:
        return Path(file.path).expanduser()
    if file.file_id is None or file.file_id not in files:
        raise InternalError(f"file {file.file_id} was not fetched for this step", code="input_missing")
    return files[file.file_id]


def render_messages(messages: Any) -> str | None:
    """Chat messages as one text, or None where they are not a list of `{role, content}`."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return None
    contents = [_content_text(message.get("content")) for message in messages]
    return None if None in contents else "\n\n".join(content for content in contents if content)


def _of_file(
    path: Path, kind: Format, *, corpus: CorpusSpec, domain: str | None, pointer: str
) -> Iterator[Document]:
    match kind:
        case "text":
            for place, text in read_text(path, pointer=pointer):
                if text:
                    yield Document(text=text, domain=domain or DEFAULT_DOMAIN, place=place)
            return
        case "jsonl":
            records = read_jsonl(path, pointer=pointer)
        case "parquet":
            columns = [corpus.messages_field or corpus.text_field]
            columns += [corpus.domain_field] if corpus.domain_field else []
            records = read_parquet(path, columns=columns, pointer=pointer)
    for record in records:
        yield from _of_record(record, corpus=corpus, domain=domain, pointer=pointer)


def _of_record(record: Record, *, corpus: CorpusSpec, domain: str | None, pointer: str) -> Iterator[Document]:
    """The record's document; none where its text is empty."""
    field = corpus.messages_field or corpus.text_field
    if field not in record.fields:
        raise field_missing(record.place, field, list(record.fields), pointer=pointer)
    value = record.fields[field]
    text = render_messages(value) if corpus.messages_field else value
    if not isinstance(text, str):
        expected = "a list of messages with role and content" if corpus.messages_field else "text"
        raise CorpusInvalid(
            f"{record.place}: field {field!r} holds {type(value).__name__}, expected {expected}",
            code="corpus_field_not_text",
            hint="set corpus.text_field or corpus.messages_field to the field that holds the document",
            pointer=pointer,
        )
    if len(text) > MAX_RECORD_BYTES:
        raise record_too_long(record.place, pointer=pointer)
    _require_utf8(text, place=record.place, pointer=pointer)
    label = record.fields.get(corpus.domain_field) if corpus.domain_field else None
    if text:
        yield Document(text=text, domain=str(label or domain or DEFAULT_DOMAIN), place=record.place)


def _require_utf8(text: str, *, place: str, pointer: str) -> None:
    """JSON can spell half of a surrogate pair (`\\ud800`), which no UTF-8 expresses."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CorpusInvalid(
            f"{place} holds a lone surrogate (U+{ord(text[error.start]):04X} at character {error.start})",
            code="corpus_not_utf8",
            hint="write the record again from its origin as valid UTF-8",
            pointer=pointer,
        ) from error


def _content_text(content: Any) -> str | None:
    """A message's content is text, or a list of parts of which the text ones count."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return "".join(str(part.get("text", "")) for part in content if part.get("type", "text") == "text")
    return None
