"""What is said about a file on arrival."""

import json
import tracemalloc
from pathlib import Path

import pytest

from app.catalog import checks
from app.catalog.checks import FileProblem, check_uploaded_file

RECORD = b'{"text": "hello"}\n'


def _check(
    folder: Path, data: bytes, *, filename: str = "corpus.jsonl", purpose: checks.Purpose = "corpus"
) -> FileProblem | None:
    path = folder / "upload"
    path.write_bytes(data)
    return check_uploaded_file(path, filename=filename, purpose=purpose)


@pytest.mark.parametrize(
    ("filename", "data"),
    [
        ("a.jsonl", RECORD * 3),
        ("a.JSONL", RECORD.rstrip(b"\n")),
        ("a.jsonl", b"\xef\xbb\xbf" + RECORD),
        ("a.jsonl", b"\n" + RECORD + b"\r\n \n" + RECORD),
        ("a.ndjson", '{"text": "Zürich \u2028 東京"}'.encode()),
        ("a.txt", "Zürich\n東京".encode()),
        ("no-extension", b"plain text"),
        ("no-extension", RECORD),
        ("a.parquet", b"PAR1 some columns PAR1"),
        ("no-extension", b"PAR1 some columns PAR1"),
    ],
)
def test_good_files_have_no_problem(tmp_path: Path, filename: str, data: bytes) -> None:
    assert _check(tmp_path, data, filename=filename) is None


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (b'{"text": "hello"\n', "corpus_broken_line"),
        (b"[1, 2]\n", "corpus_broken_line"),
        (b'"text"\n', "corpus_broken_line"),
        (b'{"text": "caf\xe9"}\n', "corpus_not_utf8"),
        (b"[" * 100_000 + b"\n", "corpus_broken_line"),
        (b'{"n": ' + b"9" * 10_000 + b"}\n", "corpus_broken_line"),
    ],
)
def test_the_first_broken_line_is_named(tmp_path: Path, broken: bytes, code: str) -> None:
    problem = _check(tmp_path, RECORD * 2 + b"\n" + broken + RECORD + b"nonsense\n")

    assert problem is not None
    assert (problem.code, problem.line) == (code, 4)
    assert "line 4" in problem.message
    assert problem.hint


@pytest.mark.parametrize("filename", ["a.jsonl", "a.txt", "a.parquet", "a"])
@pytest.mark.parametrize("data", [b"", b"\n \r\n\n", b"\xef\xbb\xbf"])
def test_files_without_text_are_empty(tmp_path: Path, filename: str, data: bytes) -> None:
    problem = _check(tmp_path, data, filename=filename)

    assert problem is not None
    expected = "corpus_broken_file" if data and filename == "a.parquet" else "corpus_empty"
    assert problem.code == expected


def test_text_that_is_not_utf8_names_its_line(tmp_path: Path) -> None:
    problem = _check(tmp_path, "Zürich\n".encode() * 200_000 + b"caf\xe9\n", filename="a.txt")

    assert problem is not None
    assert (problem.code, problem.line) == ("corpus_not_utf8", 200_001)


def test_text_cut_within_a_character_is_noticed(tmp_path: Path) -> None:
    problem = _check(tmp_path, "one\nZü".encode()[:-1], filename="a.txt")

    assert problem is not None
    assert (problem.code, problem.line) == ("corpus_not_utf8", 2)


@pytest.mark.parametrize("data", [b"PAR1", b"PAR1 columns", b"hello world PAR1", b"PAR1PAR1"])
def test_parquet_needs_its_mark_at_both_ends(tmp_path: Path, data: bytes) -> None:
    problem = _check(tmp_path, data, filename="a.parquet")

    assert problem is not None
    assert problem.code == "corpus_broken_file"


def test_one_endless_line_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MAX_LINE_BYTES", 1 << 20)
    data = b'{"text": "' + b"a" * (16 << 20)

    tracemalloc.start()
    (tmp_path / "upload").write_bytes(data)
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    problem = check_uploaded_file(tmp_path / "upload", filename="a.jsonl", purpose="corpus")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert problem is not None
    assert (problem.code, problem.line) == ("corpus_broken_line", 1)
    assert peak - before < 4 << 20


def test_a_spec_is_validated(tmp_path: Path) -> None:
    spec = {
        "api_version": "fusion/v1",
        "sources": [{"name": "a", "model": {"path": "/models/a"}}],
        "target": {"model": {"path": "/models/b"}},
        "corpus": {"files": [{"path": "/corpus.jsonl"}]},
    }

    assert _check(tmp_path, json.dumps(spec).encode(), filename="spec.yaml", purpose="spec") is None
    broken = _check(tmp_path, json.dumps(spec | {"colour": 1}).encode(), filename="s.json", purpose="spec")
    assert broken is not None
    assert broken.code == "spec_invalid"
    assert "colour" in broken.message


def test_what_is_no_spec_at_all(tmp_path: Path) -> None:
    for data in (b"", b"\xff\xfe", b"just text", b"a: [", b"x" * (5 << 20)):
        assert _check(tmp_path, data, filename="spec.yaml", purpose="spec") is not None
