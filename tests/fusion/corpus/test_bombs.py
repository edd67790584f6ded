"""Small files that become large ones, and records without an end, are refused soon and in little memory."""

import gzip
import io
import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd

from app.catalog import text_checks
from fusion.corpus import readers
from fusion.corpus.documents import iter_documents
from fusion.errors import CorpusInvalid
from fusion.spec import CorpusFile, CorpusSpec

MEBIBYTE = 1 << 20
MAX_MEMORY = 600 * MEBIBYTE
"""Of a process that has read all of them; what it imports takes a hundred."""
MAX_SECONDS = 10.0
LINE = b'{"text": "%s"}\n' % (b"a" * 1000)
READ = """
import json, re, sys, time
from pathlib import Path
from fusion.corpus.documents import iter_documents
from fusion.errors import CorpusInvalid
from fusion.spec import CorpusFile, CorpusSpec
found = {}
for path in sys.argv[1:]:
    started = time.monotonic()
    try:
        for document in iter_documents(CorpusSpec(files=[CorpusFile(path=path)]), files={}):
            pass
        code = "read"
    except CorpusInvalid as error:
        code = error.code
    found[Path(path).name] = (code, time.monotonic() - started)
highest = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps([found, int(highest[1]) * 1024]))
"""


def parquet(values: pa.Array, **options: object) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": values}), file, compression="zstd", **options)
    return file.getvalue()


def repeated() -> bytes:
    """A hundred gigabytes: one value, and a hundred thousand times its number."""
    return parquet(pa.DictionaryArray.from_arrays(pa.array([0] * 100_000), pa.array(["a" * MEBIBYTE])))


LIMIT = "corpus_decompression_limit"
BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "lines.jsonl.gz": (LIMIT, lambda: gzip.compress(LINE * 100_000)),
    "lines.jsonl.zst": (LIMIT, lambda: zstd.compress(LINE * 100_000)),
    "lines.jsonl.xz": (LIMIT, lambda: lzma.compress(LINE * 100_000, preset=0)),
    "streams.txt.gz": (LIMIT, lambda: gzip.compress(LINE * 1000) * 100),
    "line.txt.zst": (LIMIT, lambda: zstd.compress(b"a" * 100 * MEBIBYTE)),
    "line.txt.gz": (LIMIT, lambda: gzip.compress(b"a" * 100 * MEBIBYTE)),
    "line.jsonl": ("corpus_record_too_long", lambda: b'{"text": "' + b"a" * 100 * MEBIBYTE),
    "deep.jsonl": ("corpus_broken_line", lambda: b'{"text":' + b"[" * 10_000_000),
    "pages.parquet": (LIMIT, lambda: parquet(pa.array(["a" * MEBIBYTE] * 60), use_dictionary=False)),
    "repeated.parquet": (LIMIT, repeated),
    "cell.parquet": (LIMIT, lambda: parquet(pa.array(["a" * 100 * MEBIBYTE]))),
    "endless.txt": ("read", lambda: b"a" * 100 * MEBIBYTE),
}


@pytest.mark.timeout(300)
def test_no_bomb_hurts(tmp_path: Path) -> None:
    for name, (_, made) in BOMBS.items():
        (tmp_path / name).write_bytes(made())

    done = subprocess.run(
        [sys.executable, "-c", READ, *(str(tmp_path / name) for name in BOMBS)],
        check=True,
        capture_output=True,
        text=True,
    )

    found, memory = json.loads(done.stdout)
    assert {name: code for name, (code, _) in found.items()} == {
        name: code for name, (code, _) in BOMBS.items()
    }
    assert max(seconds for _, seconds in found.values()) < MAX_SECONDS
    assert memory < MAX_MEMORY


def test_a_row_that_is_too_long_is_named(tmp_path: Path) -> None:
    values = ["fine", "é" * (readers.MAX_RECORD_BYTES // 2) + "x" * readers.MAX_RECORD_BYTES]
    pq.write_table(
        pa.table({"text": values}), tmp_path / "a.parquet", compression="none", use_dictionary=False
    )

    corpus = CorpusSpec(files=[CorpusFile(path=str(tmp_path / "a.parquet"))])
    with pytest.raises(CorpusInvalid, match="row 2 is longer") as caught:
        list(iter_documents(corpus, files={}))

    assert caught.value.code == "corpus_record_too_long"


def test_a_long_line_of_text_is_cut_between_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MAX_RECORD_BYTES", 100_000)
    text = "short\n" + "日本語é" * 50_000 + "\nend"
    (tmp_path / "a.txt").write_text(text)

    found = list(readers.read_text(tmp_path / "a.txt", pointer="/x"))

    assert "".join(piece for _, piece in found) == text
    assert max(len(piece.encode()) for _, piece in found) <= 100_000 + 10
    assert {place for place, _ in found} == {"a.txt line 1", "a.txt line 2"}


def test_what_is_cut_off_within_a_character_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MAX_RECORD_BYTES", 100)
    (tmp_path / "a.txt").write_bytes(("日" * 100).encode()[:-1])

    with pytest.raises(CorpusInvalid) as caught:
        list(readers.read_text(tmp_path / "a.txt", pointer="/x"))

    assert caught.value.code == "corpus_not_utf8"


def test_uploads_have_the_limit_of_those_who_read_them() -> None:
    assert text_checks.MAX_LINE_BYTES == readers.MAX_RECORD_BYTES
