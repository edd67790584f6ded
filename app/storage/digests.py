"""sha256 of bytes on their way: every byte that enters or leaves a store passes through here once."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from fusion.errors import InfrastructureError
from fusion.failpoints import failpoint


class FileDamaged(InfrastructureError):
    """A file on the local disk holds other bytes than whoever wrote it declared."""


def file_sha256(path: Path) -> str:
    """sha256 of a file in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pieces_sha256(pieces: Iterable[bytes]) -> str:
    """sha256 of bytes that come in pieces."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def check_digest(path: Path, *, found: str, expected: str) -> None:
    """Refuse a file whose bytes are not those expected.

    Raises:
        FileDamaged: names both digests.
    """
    if found != expected:
        raise FileDamaged(f"{path}: sha256 {found}, expected {expected}", code="folder_damaged")


def checked_pieces(path: Path, *, sha256: str, piece_bytes: int) -> Iterator[bytes]:
    """The bytes of a file, digested as they go. The last piece comes only once all of them are right.

    Whoever consumes the pieces therefore never holds all of a damaged file.

    Raises:
        FileDamaged: instead of the last piece.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        piece = file.read(piece_bytes)
        while piece:
            digest.update(piece)
            following = file.read(piece_bytes)
            if not following:
                break
            yield piece
            failpoint("object.piece_sent")
            piece = following
    check_digest(path, found=digest.hexdigest(), expected=sha256)
    yield piece
