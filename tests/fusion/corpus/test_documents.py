"""A corpus is read whatever it is stored in, and every mistake in it is named with its place."""

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusion.corpus.documents import Document, iter_documents, render_messages
from fusion.errors import CorpusInvalid, InternalError
from fusion.spec import CorpusSpec


def read(path: Path, *, file: dict[str, Any] | None = None, **fields: Any) -> list[Document]:
    corpus = CorpusSpec.model_validate({"files": [{"path": str(path), **(file or {})}], **fields})
    return list(iter_documents(corpus, files={}))


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_jsonl_skips_blank_lines_and_empty_texts_and_keeps_domains(tmp_path: Path) -> None:
    lines = ['{"text": "one", "kind": "code"}', "", '{"text": ""}', '{"text": "two\\u2028x"}']
    path = write(tmp_path / "c.jsonl", b"\xef\xbb\xbf" + "\r\n".join(lines).encode())

    documents = read(path, file={"domain": "prose"}, domain_field="kind")

    assert [(d.text, d.domain, d.place) for d in documents] == [
        ("one", "code", "c.jsonl line 1"),
        ("two\u2028x", "prose", "c.jsonl line 4"),
    ]


def test_parquet_reads_only_what_it_needs(tmp_path: Path) -> None:
    table = pa.table({"body": ["a", "b"], "kind": ["x", None], "other": [1, 2]})
    pq.write_table(table, tmp_path / "c.parquet")

    documents = read(tmp_path / "c.parquet", text_field="body", domain_field="kind")

    assert [(d.text, d.domain, d.place) for d in documents] == [
        ("a", "x", "c.parquet row 1"),
        ("b", "default", "c.parquet row 2"),
    ]


def test_plain_text_is_split_at_blank_lines_without_losing_a_byte(tmp_path: Path) -> None:
    text = "".join(f"paragraph {number}\r\nmore\n\n" for number in range(1000)) + "no line end"
    path = write(tmp_path / "c.txt", text)

    documents = read(path)

    assert len(documents) > 2
    assert "".join(document.text for document in documents).encode() == path.read_bytes()
    assert all(4096 <= len(document.text) < 4200 for document in documents[:-1])


def test_plain_text_without_blank_lines_is_split_too(tmp_path: Path) -> None:
    path = write(tmp_path / "c.txt", "a line of text\n" * 10_000)

    documents = read(path)

    assert max(len(document.text) for document in documents) < 66_000
    assert "".join(document.text for document in documents) == path.read_text()


def test_an_unknown_name_is_judged_by_the_first_bytes(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["p"]}), tmp_path / "one")
    write(tmp_path / "two", '\n {"text": "j"}')
    write(tmp_path / "three", "plain")

    assert [read(tmp_path / name)[0].text for name in ("one", "two", "three")] == ["p", "j", "plain"]
    assert read(tmp_path / "two", file={"format": "text"})[0].text == '\n {"text": "j"}'


def test_messages_become_their_contents_in_order(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": None},
        {"role": "user", "content": [{"type": "text", "text": "What"}, {"type": "image"}, {"text": "?"}]},
        {"role": "assistant", "content": "That."},
    ]
    path = write(tmp_path / "c.jsonl", json.dumps({"chat": messages}))

    assert read(path, messages_field="chat")[0].text == "What?\n\nThat."
    assert render_messages("text") is None
    assert render_messages([{"content": 3}]) is None


def test_uploaded_files_are_found_by_id(tmp_path: Path) -> None:
    corpus = CorpusSpec.model_validate({"files": [{"file_id": "file-1"}]})
    path = write(tmp_path / "c.txt", "x")

    assert [d.text for d in iter_documents(corpus, files={"file-1": path})] == ["x"]
    with pytest.raises(InternalError):
        list(iter_documents(corpus, files={}))


GOOD = b'{"text": "good"}\n'
BROKEN = [
    ("c.jsonl", GOOD + b'{"text": "bro\n', {}, "corpus_broken_line", "c.jsonl line 2: "),
    ("c.jsonl", GOOD * 16 + b"[" * 100_000, {}, "corpus_broken_line", "c.jsonl line 17: "),
    ("c.jsonl", GOOD + b'"text"\n', {}, "corpus_broken_line", "line 2: .*holds str"),
    ("c.jsonl", GOOD + b'{"text": "\xff"}\n', {}, "corpus_not_utf8", "line 2 is not UTF-8: byte 0xff"),
    ("c.jsonl", GOOD + b'{"text": "\\ud800"}\n', {}, "corpus_not_utf8", "line 2 holds a lone surrogate"),
    ("c.jsonl", b'{"body": "", "id": 1}\n', {}, "corpus_field_missing", "no field 'text'.*'body', 'id'"),
    ("c.jsonl", GOOD, {"messages_field": "chat"}, "corpus_field_missing", "no field 'chat'.*'text'"),
    ("c.jsonl", b'{"text": 3}\n', {}, "corpus_field_not_text", "line 1: field 'text' holds int"),
    ("c.jsonl", GOOD, {"messages_field": "text"}, "corpus_field_not_text", "expected a list of messages"),
    ("c.txt", b"fine\n\xe9\n", {}, "corpus_not_utf8", "c.txt line 2 is not UTF-8"),
    ("c.parquet", b"PAR1 nonsense", {}, "corpus_broken_file", "c.parquet is not a Parquet file"),
]


@pytest.mark.parametrize(("name", "content", "fields", "code", "message"), BROKEN)
def test_mistakes_are_named_with_their_place(
    tmp_path: Path, name: str, content: bytes, fields: dict[str, Any], code: str, message: str
) -> None:
    with pytest.raises(CorpusInvalid, match=message) as caught:
        read(write(tmp_path / name, content), **fields)

    assert caught.value.code == code
    assert caught.value.hint
    assert caught.value.pointer == "/corpus/files/0/path"


def test_a_missing_file_and_a_missing_column_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "c.parquet")

    with pytest.raises(CorpusInvalid, match=r"nowhere\.txt") as missing_file:
        read(tmp_path / "nowhere.txt")
    with pytest.raises(CorpusInvalid, match="'body'") as missing_column:
        read(tmp_path / "c.parquet")

    assert missing_file.value.code == "corpus_file_missing"
    assert missing_column.value.code == "corpus_field_missing"


def test_a_parquet_row_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    text = pa.array([b"fine"] * 300 + [b"caf\xe9"], type=pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": text}), tmp_path / "c.parquet")

    with pytest.raises(CorpusInvalid, match=r"c\.parquet row 301 is not UTF-8: byte 0xe9") as caught:
        read(tmp_path / "c.parquet")

    assert caught.value.code == "corpus_not_utf8"
    assert caught.value.pointer == "/corpus/files/0/path"


def test_a_damaged_page_of_a_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    texts = [f"document {number}" for number in range(600)]
    pq.write_table(pa.table({"text": texts}), path, use_dictionary=False, row_group_size=300)
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    content = path.read_bytes()
    write(path, content[:start] + b"\xff" * 64 + content[start + 64 :])

    with pytest.raises(CorpusInvalid, match=r"damaged between rows [0-9]+ and 600") as caught:
        read(path)

    assert caught.value.code == "corpus_broken_file"


@pytest.mark.parametrize(("ending", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_compressed_files_are_read_like_others(
    tmp_path: Path, ending: str, compress: Callable[[bytes], bytes]
) -> None:
    lines = b'{"text": "one"}\n{"text": "two"}\n'

    jsonl = read(write(tmp_path / f"c.jsonl{ending}", compress(lines)))
    unnamed = read(write(tmp_path / f"c{ending}", compress(lines)))
    text = read(write(tmp_path / f"c.txt{ending}", compress(b"one\ntwo\n")))

    assert [d.text for d in jsonl] == [d.text for d in unnamed] == ["one", "two"]
    assert jsonl[1].place == f"c.jsonl{ending} line 2"
    assert [d.text for d in text] == ["one\ntwo\n"]


@pytest.mark.parametrize("name", ["c.jsonl.gz", "c.parquet.gz"])
def test_compressed_files_that_cannot_be_read_say_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(CorpusInvalid) as caught:
        read(write(tmp_path / name, gzip.compress(b'{"text": "one"}\n')[:-4]))

    assert (caught.value.code, caught.value.pointer) == ("corpus_broken_file", "/corpus/files/0/path")
