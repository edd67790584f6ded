"""Compressed files give their bytes back, and none of them gives more than is allowed."""

import gzip
import lzma
import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from fusion import compression
from fusion.compression import Compression, compression_of, decompressed, open_uncompressed, uncompressed_name
from fusion.errors import CorpusInvalid

# Only with it does a zstd file notice a changed byte, as the other two always do.
CHECKED = {zstd.CompressionParameter.compression_level: 1, zstd.CompressionParameter.checksum_flag: 1}
COMPRESS: dict[Compression, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "zstd": lambda data: zstd.compress(data, options=CHECKED),
    "xz": lambda data: lzma.compress(data, preset=0),
}
TEXT = random.Random(0).randbytes(3000) + "Zürich\n".encode() * 300_000
ways = pytest.mark.parametrize("way", COMPRESS)


def pieces_of(data: bytes, size: int = 1000) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def read(data: bytes, way: Compression, **limits: int) -> bytes:
    return b"".join(decompressed(pieces_of(data), compression=way, name="a", **limits))


@ways
def test_the_bytes_come_back(way: Compression) -> None:
    assert read(COMPRESS[way](TEXT), way) == TEXT
    assert read(COMPRESS[way](b""), way) == b""
    assert read(b"", way) == b""


@ways
def test_several_streams_and_padding_are_one_file(way: Compression) -> None:
    streams = COMPRESS[way](TEXT) + b"\0" * 8 + COMPRESS[way](b"") + COMPRESS[way](b"end") + b"\0" * 4000

    assert read(streams, way) == TEXT + b"end"


@given(st.binary(max_size=300), st.sampled_from(list(COMPRESS)), st.integers(1, 40))
def test_pieces_may_end_anywhere(data: bytes, way: Compression, size: int) -> None:
    packed = COMPRESS[way](data)

    assert b"".join(decompressed(pieces_of(packed, size), compression=way, name="a")) == data


@ways
def test_cut_off_and_damaged_files_are_refused(way: Compression) -> None:
    packed = COMPRESS[way](TEXT)
    broken = [packed[:-1], packed[: len(packed) // 2], b"nonsense", packed + b"nonsense", b"\0" + packed]
    broken.append(packed[:1500] + bytes([packed[1500] ^ 1]) + packed[1501:])

    for data in broken:
        with pytest.raises(CorpusInvalid) as caught:
            read(data, way)
        assert caught.value.code == "corpus_broken_file"
        assert caught.value.hint


@ways
def test_a_bomb_is_left_alone_before_it_hurts(way: Compression) -> None:
    bomb = COMPRESS[way](bytes(128 << 20))
    num_made = 0

    def explode() -> None:
        nonlocal num_made
        for piece in decompressed(pieces_of(bomb), compression=way, name="a.txt"):
            num_made += len(piece)

    tracemalloc.start()
    with pytest.raises(CorpusInvalid) as caught:
        explode()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert caught.value.code == "corpus_decompression_limit"
    assert num_made <= compression.ALWAYS_ALLOWED_BYTES + (1 << 20)
    assert peak < 8 << 20


@ways
def test_what_is_merely_large_ends_at_the_absolute_limit(way: Compression) -> None:
    packed = COMPRESS[way](TEXT)

    assert read(packed, way, max_bytes=len(TEXT)) == TEXT
    with pytest.raises(CorpusInvalid, match="at most"):
        read(packed, way, max_bytes=len(TEXT) - 1)


def test_a_decoder_gets_no_more_memory_than_agreed() -> None:
    wide = lzma.compress(b"text", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 512 << 20}])
    options = {zstd.CompressionParameter.window_log: 28, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    far = compressor.compress(b"text", zstd.ZstdCompressor.FLUSH_BLOCK) + compressor.flush()

    for data, way in ((wide, "xz"), (far, "zstd")):
        with pytest.raises(CorpusInvalid):
            read(data, way)


@pytest.mark.parametrize(
    ("name", "way", "plain"),
    [
        ("a.jsonl", None, "a.jsonl"),
        ("a.jsonl.gz", "gzip", "a.jsonl"),
        ("A.TXT.ZST", "zstd", "A.TXT"),
        ("a.xz", "xz", "a"),
        ("gz", None, "gz"),
    ],
)
def test_names_tell(name: str, way: Compression | None, plain: str) -> None:
    assert (compression_of(name), uncompressed_name(name)) == (way, plain)


def test_lines_of_a_compressed_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.zst"
    path.write_bytes(zstd.compress(b"one\ntwo\nthree"))

    with open_uncompressed(path) as file:
        assert list(file) == [b"one\n", b"two\n", b"three"]
