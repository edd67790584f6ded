"""What is said about a file on arrival."""

import gzip
import io
import json
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd

from app.catalog import text_checks
from app.catalog.checks import CheckTooLong, check_uploaded_file
from app.catalog.findings import FileFacts, FileProblem, Purpose
from app.storage.byte_source import ByteSource

RECORD = b'{"text": "hello"}\n'


def _parquet(table: pa.Table, **options: object) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


GZIPPED = gzip.compress(RECORD * 3, mtime=0)  # a parameter of tests must be the same in every process
PARQUET = _parquet(pa.table({"text": ["hello", "world"], "n": [1, 2]}))


def _facts(
    folder: Path, data: bytes, *, filename: str = "corpus.jsonl", purpose: Purpose = "corpus"
) -> FileFacts:
    (folder / "upload").write_bytes(data)
    source = ByteSource.on_disk(folder / "upload")
    finding = check_uploaded_file(source, filename=filename, purpose=purpose)
    assert finding.problem is None
    assert finding.facts is not None
    return finding.facts


def _problem(
    folder: Path, data: bytes, *, filename: str = "corpus.jsonl", purpose: Purpose = "corpus"
) -> FileProblem:
    (folder / "upload").write_bytes(data)
    source = ByteSource.on_disk(folder / "upload")
    finding = check_uploaded_file(source, filename=filename, purpose=purpose)
    assert finding.facts is None
    assert finding.problem is not None
    assert finding.problem.hint
    return finding.problem


@pytest.mark.parametrize(
    ("filename", "data", "kind", "num_records"),
    [
        ("a.jsonl", RECORD * 3, "jsonl", 3),
        ("a.JSONL", RECORD.rstrip(b"\n"), "jsonl", 1),
        ("a.jsonl", b"\xef\xbb\xbf" + RECORD, "jsonl", 1),
        ("a.jsonl", b"\n" + RECORD + b"\r\n \n" + RECORD, "jsonl", 2),
        ("a.ndjson", '{"text": "Zürich \u2028 東京"}'.encode(), "jsonl", 1),
        ("a.jsonl", b'{"text": "\\ud83d\\ude00 \\\\ud800"}', "jsonl", 1),
        ("a.txt", "Zürich\n東京\n".encode(), "text", 2),
        ("no-extension", b"plain text", "text", 0),
        ("no-extension", RECORD, "jsonl", 1),
        ("a.jsonl.gz", GZIPPED, "jsonl", 3),
        ("a.gz", GZIPPED, "jsonl", 3),
        ("a.txt.zst", zstd.compress(b"one\ntwo\n"), "text", 2),
        ("a.parquet", PARQUET, "parquet", 2),
        ("no-extension", PARQUET, "parquet", 2),
    ],
)
def test_good_files_tell_what_they_hold(
    tmp_path: Path, filename: str, data: bytes, kind: str, num_records: int
) -> None:
    facts = _facts(tmp_path, data, filename=filename)

    assert (facts.format, facts.num_records) == (kind, num_records)


def test_the_fields_and_the_size_of_the_text_are_told(tmp_path: Path) -> None:
    lines = b'{"text": "a", "domain": "b"}\n{"other": 1}\n'

    packed = _facts(tmp_path, gzip.compress(lines), filename="a.jsonl.gz")

    assert (packed.fields, packed.num_text_bytes) == (("text", "domain"), len(lines))
    assert _facts(tmp_path, PARQUET, filename="a.parquet").fields == ("text", "n")


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (b'{"text": "hello"\n', "corpus_broken_line"),
        (b"[1, 2]\n", "corpus_broken_line"),
        (b'"text"\n', "corpus_broken_line"),
        (b'{"text": "caf\xe9"}\n', "corpus_not_utf8"),
        (b'{"text": "\\uD800"}\n', "corpus_not_utf8"),
        (b'{"a": [{"b": "\\udc00"}]}\n', "corpus_not_utf8"),
        (b"[" * 100_000 + b"\n", "corpus_broken_line"),
        (b'{"n": ' + b"9" * 10_000 + b"}\n", "corpus_broken_line"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_first_broken_line_is_named(tmp_path: Path, broken: bytes, code: str, packed: bool) -> None:
    data = RECORD * 2 + b"\n" + broken + RECORD + b"nonsense\n"

    problem = _problem(
        tmp_path,
        gzip.compress(data) if packed else data,
        filename="corpus.jsonl.gz" if packed else "corpus.jsonl",
    )

    assert (problem.code, problem.line) == (code, 4)
    assert "line 4" in problem.message


@pytest.mark.parametrize("filename", ["a.jsonl", "a.txt", "a.parquet", "a", "a.jsonl.gz", "a.zst"])
@pytest.mark.parametrize("data", [b"", b"\n \r\n\n", b"\xef\xbb\xbf"])
def test_files_without_text_are_empty(tmp_path: Path, filename: str, data: bytes) -> None:
    pack = {".gz": gzip.compress, ".zst": zstd.compress}.get(Path(filename).suffix, bytes)

    problem = _problem(tmp_path, pack(data), filename=filename)

    expected = "corpus_broken_file" if data and filename == "a.parquet" else "corpus_empty"
    assert problem.code == expected


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(("filename", "before"), [("a.jsonl", RECORD), ("a.txt", "Zürich\n".encode())])
def test_what_is_not_utf8_names_line_and_byte(
    tmp_path: Path, start: bytes, filename: str, before: bytes
) -> None:
    good = start + before * 200_000

    problem = _problem(tmp_path, good + b"caf\xe9\n", filename=filename)

    assert (problem.code, problem.line, problem.byte) == ("corpus_not_utf8", 200_001, len(good) + 3)
    assert "0xe9" in problem.message


def test_text_cut_within_a_character_is_noticed(tmp_path: Path) -> None:
    problem = _problem(tmp_path, "one\nZü".encode()[:-1], filename="a.txt")

    assert (problem.code, problem.line, problem.byte) == ("corpus_not_utf8", 2, 5)


@pytest.mark.parametrize(
    "data",
    [
        b"PAR1",
        b"PAR1 columns",
        b"hello world PAR1",
        b"PAR1PAR1",
        b"PAR1 some columns PAR1",
        PARQUET[:-1],
        PARQUET[: len(PARQUET) // 2] + PARQUET[-8:],
        PARQUET[:-8] + b"\xff\xff\xff\x7fPAR1",
    ],
)
def test_broken_parquet_is_noticed_by_its_footer(tmp_path: Path, data: bytes) -> None:
    assert _problem(tmp_path, data, filename="a.parquet").code == "corpus_broken_file"


def test_parquet_without_text_names_its_columns(tmp_path: Path) -> None:
    problem = _problem(tmp_path, _parquet(pa.table({"a": [1], "b": [0.5]})), filename="a.parquet")

    assert problem.code == "corpus_field_missing"
    assert "a, b" in problem.message
    empty = _parquet(pa.table({"text": pa.array([], pa.string())}))
    assert _problem(tmp_path, empty, filename="a.parquet").code == "corpus_empty"


def test_parquet_that_is_compressed_once_more_is_refused(tmp_path: Path) -> None:
    for filename in ("a.parquet.gz", "a.gz"):
        problem = _problem(tmp_path, gzip.compress(PARQUET), filename=filename)
        assert problem.code == "corpus_broken_file"
        assert "columns are compressed" in problem.hint


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        escaping = tarfile.TarInfo("../../escaped.jsonl")
        escaping.size = len(RECORD)
        archive.addfile(escaping, io.BytesIO(RECORD))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return file.getvalue()


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../escaped.jsonl", RECORD * 1000)
    return file.getvalue()


@pytest.mark.parametrize(
    ("filename", "make"),
    [
        ("a.zip", _zip),
        ("a.jsonl", _zip),
        ("a.parquet", _zip),
        ("a.jsonl", _tar),
        ("a.jsonl.gz", lambda: gzip.compress(_tar())),
    ],
)
def test_an_archive_is_no_corpus_and_is_not_unpacked(
    tmp_path: Path, filename: str, make: Callable[[], bytes]
) -> None:
    problem = _problem(tmp_path, make(), filename=filename)

    assert problem.code in ("corpus_not_utf8", "corpus_broken_line", "corpus_broken_file")
    assert [path.name for path in tmp_path.iterdir()] == ["upload"]


BOMB = 40 << 20


@pytest.mark.parametrize(
    ("filename", "data"),
    [
        ("a.jsonl.gz", gzip.compress(b'{"text": "%s"}\n' % (b"a" * 1000) * (BOMB // 1000), mtime=0)),
        ("a.txt.zst", zstd.compress(b"a" * BOMB)),
        ("a.gz", gzip.compress(b"a" * BOMB, mtime=0)),
        (
            "a.parquet",
            _parquet(
                pa.table({"text": ["a" * (1 << 20)] * (BOMB >> 20)}),
                compression="zstd",
                use_dictionary=False,
            ),
        ),
    ],
)
def test_a_bomb_is_a_problem_of_its_author(tmp_path: Path, filename: str, data: bytes) -> None:
    assert len(data) < BOMB // 200

    assert _problem(tmp_path, data, filename=filename).code == "corpus_decompression_limit"


def test_long_files_can_be_put_off(tmp_path: Path) -> None:
    long, broken_early = RECORD * 200_000, b"nonsense\n" + RECORD * 200_000
    for data, filename in ((long, "a.jsonl"), (gzip.compress(long), "a.jsonl.gz"), (long, "a.txt")):
        (tmp_path / "upload").write_bytes(data)
        with pytest.raises(CheckTooLong):
            check_uploaded_file(
                ByteSource.on_disk(tmp_path / "upload"),
                filename=filename,
                purpose="corpus",
                max_text_bytes=len(long) - 1,
            )
    (tmp_path / "upload").write_bytes(broken_early)
    finding = check_uploaded_file(
        ByteSource.on_disk(tmp_path / "upload"), filename="a.jsonl", purpose="corpus", max_text_bytes=2 << 20
    )

    assert finding.problem is not None


def test_one_endless_line_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_checks, "MAX_LINE_BYTES", 1 << 20)
    (tmp_path / "upload").write_bytes(b'{"text": "' + b"a" * (16 << 20))
    source = ByteSource.on_disk(tmp_path / "upload")

    tracemalloc.start()
    problem = check_uploaded_file(source, filename="a.jsonl", purpose="corpus").problem
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert problem is not None
    assert (problem.code, problem.line) == ("corpus_broken_line", 1)
    assert peak < 6 << 20


def test_a_spec_is_validated(tmp_path: Path) -> None:
    spec = {
        "api_version": "fusion/v1",
        "sources": [{"name": "a", "model": {"path": "/models/a"}}],
        "target": {"model": {"path": "/models/b"}},
        "corpus": {"files": [{"path": "/corpus.jsonl"}]},
    }

    facts = _facts(tmp_path, json.dumps(spec).encode(), filename="spec.yaml", purpose="spec")
    broken = _problem(tmp_path, json.dumps(spec | {"colour": 1}).encode(), filename="s.json", purpose="spec")

    assert facts.format == "spec"
    assert broken.code == "spec_invalid"
    assert "colour" in broken.message


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"just text", b"a: [", b"x" * (5 << 20)])
def test_what_is_no_spec_at_all(tmp_path: Path, data: bytes) -> None:
    _problem(tmp_path, data, filename="spec.yaml", purpose="spec")
