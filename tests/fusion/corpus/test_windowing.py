"""Windows concatenate to their document, and every tokenizer stays within its limit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.corpus.windowing import Reader, cut_document
from fusion.errors import CorpusInvalid
from fusion.llms.token_bytes import TextEncoder
from tests.support.tiny_models import SPECIAL_TOKENS, load_golden_tokenizer

ENCODERS = [TextEncoder(load_golden_tokenizer(name)) for name in sorted(SPECIAL_TOKENS)]


def readers(*limits: int) -> list[Reader]:
    return [Reader(encoder=e, max_tokens=limit) for e, limit in zip(ENCODERS, limits, strict=False)]


def texts_of(text: str, *limits: int) -> list[str]:
    return [cut.text for cut in cut_document(text, readers=readers(*limits))]


PIECES = st.one_of(
    st.sampled_from(
        ["word ", "line\n", "\r\n", "    ", "👩‍👩‍👧 ", "e\u0301", "日本語", "<s>", "\x00", "x" * 40]
    ),
    st.text(max_size=10),
)


@given(
    pieces=st.lists(PIECES, max_size=60),
    limits=st.tuples(*[st.integers(min_value=6, max_value=40)] * 3),
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_and_no_limit_exceeded(pieces: list[str], limits: tuple[int, int, int]) -> None:
    text = "".join(pieces)

    cuts = list(cut_document(text, readers=readers(*limits)))

    assert "".join(cut.text for cut in cuts) == text
    for cut in cuts:
        for encoder, encoded, limit in zip(ENCODERS, cut.encodings, limits, strict=True):
            assert 0 < len(encoded.ids) <= limit
            assert encoder.encode(cut.text).ids.tolist() == encoded.ids.tolist()


def test_a_document_that_fits_is_one_window() -> None:
    assert texts_of("short text\n", 30, 30, 30) == ["short text\n"]
    assert texts_of("", 30) == []


def test_windows_end_after_lines_where_they_can() -> None:
    windows = texts_of("first line here\n" * 20, 40, 40, 40)

    assert len(windows) > 3
    assert all(window.endswith("\n") for window in windows)


def test_windows_end_before_a_space_otherwise() -> None:
    windows = texts_of("some words in one single line " * 20, 40, 40, 40)

    assert all(window.startswith(" ") for window in windows[1:])


def test_text_without_any_break_is_cut_between_characters() -> None:
    text = "日本語" * 100

    windows = texts_of(text, 20, 20, 20)

    assert "".join(windows) == text
    assert len(windows) > 10


def test_windows_are_filled_at_least_half() -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 50

    cuts = list(cut_document(text, readers=readers(64, 64, 64)))

    assert all(max(len(e.ids) for e in cut.encodings) > 25 for cut in cuts[:-1])


def test_a_window_too_short_for_one_character_is_an_error() -> None:
    with pytest.raises(CorpusInvalid) as caught:
        texts_of("a🎉", 2)

    assert caught.value.code == "window_too_short"
