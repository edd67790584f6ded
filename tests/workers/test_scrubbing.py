"""Secrets are taken out of bytes, however these are cut into pieces."""

import base64
from collections.abc import Callable

import pytest

from workers.scrubbing import Scrubber, StreamScrubber

SECRETS = ["hf_abc", "hf_abcdef"]
PRINTED = b"x hf_abcdef hf_abc, hf_ab\nAuthorization: Bearer hf_abc\rhttps://me:hf_abcdef@host/ hf_abc"
SCRUBBED = b"x [secret] [secret], hf_ab\nAuthorization: Bearer [secret]\rhttps://me:[secret]@host/ [secret]"


def test_every_occurrence_goes_and_nothing_else() -> None:
    assert Scrubber(SECRETS).scrub(PRINTED) == SCRUBBED
    assert Scrubber([]).scrub(PRINTED) == PRINTED


@pytest.mark.parametrize("num_bytes", range(1, 12))
def test_where_output_is_cut_makes_no_difference(num_bytes: int) -> None:
    stream = StreamScrubber(Scrubber(SECRETS))

    pieces = [stream.feed(PRINTED[start : start + num_bytes]) for start in range(0, len(PRINTED), num_bytes)]

    assert b"".join(pieces) + stream.end() == SCRUBBED


def test_words_without_an_end_are_not_held_back_for_ever() -> None:
    stream, endless = StreamScrubber(Scrubber(SECRETS)), b"." * 50_000 + b"hf_abc" + b"." * 50_000 + b"hf_a"

    first = stream.feed(endless)
    rest = stream.feed(b"bcdef!") + stream.end()

    assert len(first) > 99_000
    assert first + rest == b"." * 50_000 + b"[secret]" + b"." * 50_000 + b"[secret]!"


def test_where_nothing_is_secret_nothing_is_held_back() -> None:
    assert StreamScrubber(Scrubber([])).feed(b"no end") == b"no end"


@pytest.mark.parametrize("user", ["", "a", "me", "you", "user:name"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("num_letters", [8, 9, 10, 11, 12, 39])
def test_what_basic_authentication_makes_of_a_secret_goes_too(
    user: str, encode: Callable[[bytes], bytes], num_letters: int
) -> None:
    token = ("hf_" + "aZ9>?~" * 6)[:num_letters]
    encoded = encode(f"{user}:{token}@".encode())

    printed = b"Authorization: Basic " + encoded
    scrubbed = Scrubber([token]).scrub(printed)

    before, after = scrubbed.removeprefix(b"Authorization: Basic ").split(b"[secret]")
    num_known = len(before) * 6 // 8
    assert encoded.startswith(before)
    assert num_known <= len(user) + 1
    assert len(after) <= 4


def test_half_a_secret_is_none() -> None:
    encoded = base64.b64encode(b"me:hf_abc")

    assert Scrubber(["hf_abcdefghijkl"]).scrub(encoded) == encoded
