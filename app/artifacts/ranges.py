"""Byte ranges and validators of a download, as RFC 9110 defines them. Pure.

One range is answered with 206. Several ranges, an unknown unit or a malformed header are answered with the
whole, which the RFC allows and every client understands.
"""

import re
from dataclasses import dataclass

_SINGLE_RANGE = re.compile(r"bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})", re.IGNORECASE)


class RangeBeyondEnd(Exception):
    """The range lies beyond the end of the representation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ByteRange:
    """Bytes `start` up to and without `end`."""

    start: int
    end: int

    def content_range(self, size: int) -> str:
        return f"bytes {self.start}-{self.end - 1}/{size}"


def parse_range(header: str | None, *, size: int) -> ByteRange | None:
    """The one range that was asked for, or `None` where the whole is to be sent.

    Raises:
        RangeBeyondEnd: well-formed, but no byte of it exists.
    """
    match = _SINGLE_RANGE.fullmatch(header.strip()) if header is not None else None
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return _suffix(int(match[2]), size=size)
    start = int(match[1])
    if match[2] and int(match[2]) < start:
        return None
    if start >= size:
        raise RangeBeyondEnd
    end = min(int(match[2]) + 1, size) if match[2] else size
    return ByteRange(start=start, end=end)


def _suffix(length: int, *, size: int) -> ByteRange:
    if length == 0 or size == 0:
        raise RangeBeyondEnd
    return ByteRange(start=max(size - length, 0), end=size)


def is_not_modified(if_none_match: str | None, *, etag: str) -> bool:
    """Whether the client already holds these bytes (weak comparison, as the RFC asks for If-None-Match)."""
    if if_none_match is None:
        return False
    candidates = [candidate.strip().removeprefix("W/") for candidate in if_none_match.split(",")]
    return "*" in candidates or etag in candidates


def range_still_applies(if_range: str | None, *, etag: str) -> bool:
    """Whether `Range` may be honoured: no `If-Range`, or one that names exactly this representation.

    A date or a weak tag never does: only the digest proves that the parts belong together.
    """
    return if_range is None or if_range.strip() == etag
