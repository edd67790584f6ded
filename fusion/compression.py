"""Compressed text (.gz, .zst, .xz), decompressed in pieces and never without a limit.

A few kilobytes can decompress to terabytes. Reading therefore stops at `MAX_BYTES`, and where a file that has
become large already is more than `MAX_RATIO` times its compressed size, which no text is.
"""

import io
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Literal, Protocol

from backports import zstd

from fusion.errors import CorpusInvalid

Compression = Literal["gzip", "zstd", "xz"]

MAX_BYTES: Final = 100 << 30
MAX_RATIO: Final = 200
ALWAYS_ALLOWED_BYTES: Final = 16 << 20
"""Up to here the ratio is nobody's business: short files of one repeated record compress without end."""
_PIECE_BYTES: Final = 1 << 20
_MAX_WINDOW_BYTES: Final = 128 << 20
"""Memory a decoder may ask for, whatever the file says it needs."""
_PADDING: Final = b"\0"
"""What may stand between and after the streams of a file."""
_COMPRESSION_OF_SUFFIX: Final[dict[str, Compression]] = {".gz": "gzip", ".zst": "zstd", ".xz": "xz"}


def compression_of(filename: str) -> Compression | None:
    """How a file is compressed, by its name."""
    return _COMPRESSION_OF_SUFFIX.get(PurePosixPath(filename.lower()).suffix)


def uncompressed_name(filename: str) -> str:
    """The name that tells the format: without the ending of a compression."""
    return filename if compression_of(filename) is None else filename.rpartition(".")[0]


def open_uncompressed(path: Path, *, pointer: str | None = None) -> BinaryIO:
    """Open a file for reading, decompressed where its name says it is compressed.

    Raises, while reading:
        CorpusInvalid: damaged, cut off, or beyond the limits.
    """
    compression = compression_of(path.name)
    if compression is None:
        return path.open("rb")
    pieces = _pieces_of(path)
    return as_file(decompressed(pieces, compression=compression, name=path.name, pointer=pointer))


def as_file(pieces: Iterable[bytes]) -> BinaryIO:
    """Bytes that come in pieces as a file that is read from front to back."""
    return io.BufferedReader(_PieceReader(pieces), buffer_size=_PIECE_BYTES)


def decompressed(
    pieces: Iterable[bytes],
    *,
    compression: Compression,
    name: str,
    pointer: str | None = None,
    max_bytes: int = MAX_BYTES,
    max_ratio: int = MAX_RATIO,
) -> Iterator[bytes]:
    """The decompressed bytes, in pieces of at most a mebibyte. Files of several streams are read whole.

    Raises:
        CorpusInvalid: with codes corpus_broken_file (damaged, cut off), corpus_decompression_limit.
    """
    num_read = num_made = 0
    try:
        for made, num_read in _decoded(pieces, make_decoder=_DECODERS[compression]):
            num_made += len(made)
            require_proportion(
                name,
                num_read=num_read,
                num_made=num_made,
                pointer=pointer,
                max_bytes=max_bytes,
                max_ratio=max_ratio,
            )
            yield made
    except (zlib.error, lzma.LZMAError, zstd.ZstdError, EOFError) as error:
        raise CorpusInvalid(
            f"{name} cannot be decompressed as {compression} after {num_made} bytes of text: {error}",
            code="corpus_broken_file",
            hint="compress the file again and upload it whole, or upload it uncompressed",
            pointer=pointer,
        ) from error


def require_proportion(
    name: str,
    *,
    num_read: int,
    num_made: int,
    pointer: str | None = None,
    max_bytes: int = MAX_BYTES,
    max_ratio: int = MAX_RATIO,
) -> None:
    """Refuse what makes much more text of a file than any text has.

    Raises:
        CorpusInvalid: corpus_decompression_limit.
    """
    too_dense = num_made > ALWAYS_ALLOWED_BYTES and num_made > max_ratio * num_read
    if num_made > max_bytes or too_dense:
        raise CorpusInvalid(
            f"{name}: {num_read} compressed bytes have become {num_made} already; at most {max_bytes} bytes "
            f"and {max_ratio} times the compressed size are read",
            code="corpus_decompression_limit",
            hint="if this is your text, remove its repetitions, or upload it uncompressed",
            pointer=pointer,
        )


class _Decoder(Protocol):
    """One stream of a file; as `lzma` and `zstd` have it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _GzipDecoder:
    """zlib's decoder with the manners of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        self._has_more = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._has_more

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        made = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self._has_more = len(made) == max_length or bool(self._inner.unconsumed_tail)
        return made


_DECODERS: Final[dict[Compression, Callable[[], _Decoder]]] = {
    "gzip": _GzipDecoder,
    "zstd": lambda: zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_BYTES.bit_length() - 1}
    ),
    "xz": lambda: lzma.LZMADecompressor(memlimit=_MAX_WINDOW_BYTES),
}


def _decoded(pieces: Iterable[bytes], *, make_decoder: Callable[[], _Decoder]) -> Iterator[tuple[bytes, int]]:
    """(decompressed piece, compressed bytes read so far), stream after stream."""
    decoder: _Decoder | None = None
    num_read = num_streams = 0
    for piece in pieces:
        num_read += len(piece)
        waiting = piece
        while True:
            if decoder is None:
                waiting = waiting.lstrip(_PADDING) if num_streams else waiting
                if not waiting:
                    break
                decoder, num_streams = make_decoder(), num_streams + 1
            made = decoder.decompress(waiting, _PIECE_BYTES)
            if made:
                yield made, num_read
            if decoder.eof:
                waiting, decoder = decoder.unused_data, None
            elif decoder.needs_input:
                break
            else:
                waiting = b""
    if decoder is not None:
        raise EOFError("the file ends in the middle of it")


class _PieceReader(io.RawIOBase):
    """Hands out the bytes of an iterator."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the buffer of BufferedReader
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        length = min(len(buffer), len(self._rest))
        buffer[:length] = self._rest[:length]
        self._rest = self._rest[length:]
        return length


def _pieces_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
