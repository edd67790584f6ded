"""Ranges and validators of RFC 9110, case by case, and every range of a small body against slicing."""

import pytest

from app.artifacts.ranges import ByteRange, RangeBeyondEnd, is_not_modified, parse_range, range_still_applies


def _slice(header: str, body: bytes) -> bytes | None:
    part = parse_range(header, size=len(body))
    return None if part is None else body[part.start : part.end]


def test_every_range_equals_a_slice() -> None:
    body = b"0123456789"
    for first in range(10):
        for last in range(first, 15):
            assert _slice(f"bytes={first}-{last}", body) == body[first : last + 1]
        assert _slice(f"bytes={first}-", body) == body[first:]
        assert _slice(f"bytes=-{first + 1}", body) == body[-(first + 1) :]


def test_a_suffix_longer_than_the_body_is_the_body() -> None:
    assert _slice("bytes=-99", b"0123") == b"0123"


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=9999999999999999999-"])
def test_what_lies_beyond_the_end_is_unsatisfiable(header: str) -> None:
    with pytest.raises(RangeBeyondEnd):
        parse_range(header, size=10)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=-5"])
def test_nothing_can_be_taken_from_an_empty_body(header: str) -> None:
    with pytest.raises(RangeBeyondEnd):
        parse_range(header, size=0)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-2",
        "lines=0-3",
        "bytes=0-1,4-5",
        "bytes=0-1;x",
    ],
)
def test_what_is_not_one_range_means_the_whole(header: str | None) -> None:
    assert parse_range(header, size=10) is None


def test_the_unit_is_case_insensitive_and_blanks_are_allowed() -> None:
    assert parse_range(" Bytes = 1 - 2 ", size=10) == ByteRange(start=1, end=3)


def test_content_range_counts_from_zero_and_includes_the_last_byte() -> None:
    assert ByteRange(start=2, end=5).content_range(10) == "bytes 2-4/10"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        ('"x"', True),
        ('W/"x"', True),
        ('"a", "x"', True),
        ("*", True),
        ('"a"', False),
        ("x", False),
    ],
)
def test_if_none_match(header: str | None, expected: bool) -> None:
    assert is_not_modified(header, etag='"x"') is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, True),
        ('"x"', True),
        ('W/"x"', False),
        ('"a"', False),
        ("Wed, 21 Oct 2015 07:28:00 GMT", False),
    ],
)
def test_if_range(header: str | None, expected: bool) -> None:
    assert range_still_applies(header, etag='"x"') is expected
