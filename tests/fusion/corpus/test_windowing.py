"""Windows concatenate to their document, no tokenizer exceeds its limit, and the text decides the rest."""

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.corpus.text_size import TOKEN, cumulative_size
from fusion.corpus.windowing import Reader, cut_document
from fusion.errors import CorpusInvalid
from fusion.llms.token_bytes import TextEncoder
from tests.support.tiny_models import SPECIAL_TOKENS, load_golden_tokenizer

ENCODERS = [TextEncoder(load_golden_tokenizer(name)) for name in sorted(SPECIAL_TOKENS)]
UNLIMITED = (10_000,) * 3


def readers(*limits: int) -> list[Reader]:
    return [Reader(encoder=e, max_tokens=limit) for e, limit in zip(ENCODERS, limits, strict=False)]


def texts_of(text: str, *limits: int, max_tokens: int = 42) -> list[str]:
    return [cut.text for cut in cut_document(text, readers=readers(*limits), max_tokens=max_tokens)]


PIECES = st.one_of(
    st.sampled_from(
        ["word ", "line\n", "\r\n", "    ", "👩‍👩‍👧 ", "e\u0301", "日本語", "<s>", "\x00", "x" * 40]
    ),
    st.text(max_size=10),
)


@given(
    pieces=st.lists(PIECES, max_size=60),
    limits=st.tuples(*[st.integers(min_value=6, max_value=40)] * 3),
    max_tokens=st.integers(min_value=8, max_value=80),
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_and_no_limit_exceeded(
    pieces: list[str], limits: tuple[int, int, int], max_tokens: int
) -> None:
    text = "".join(pieces)

    cuts = list(cut_document(text, readers=readers(*limits), max_tokens=max_tokens))

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


@given(
    pieces=st.lists(PIECES, max_size=80),
    limits=st.tuples(*[st.integers(min_value=6, max_value=60)] * 3),
)
@settings(max_examples=60, deadline=None)
def test_another_tokenizer_only_adds_cuts(pieces: list[str], limits: tuple[int, int, int]) -> None:
    text = "".join(pieces)

    shared = ends_of(texts_of(text, *UNLIMITED))
    alone = ends_of(texts_of(text, limits[0]))
    together = ends_of(texts_of(text, *limits))

    assert shared <= alone <= together


def ends_of(windows: list[str]) -> set[int]:
    return set(accumulate(map(len, windows)))


def test_tokenizers_that_accept_the_windows_have_no_say_in_them() -> None:
    text = "".join(
        f"Chapter {n * n}: {'quick brown fox; ' * (n % 5)}{'the end' * (n % 3)}.\n" for n in range(80)
    )
    windows = texts_of(text, *UNLIMITED, max_tokens=64)

    needed = [max(len(encoder.encode(w).ids) for w in windows) for encoder in ENCODERS]

    assert len(windows) > 10
    assert texts_of(text, *needed, max_tokens=64) == windows
    assert texts_of(text, needed[0], max_tokens=64) == windows
    shorter = texts_of(text, needed[0] - 1, max_tokens=64)
    assert 0 < len(set(windows) - set(shorter)) < len(windows) / 2


def test_what_is_appended_to_a_document_leaves_its_earlier_windows() -> None:
    text = "Some words in a row, and a line end.\n" * 40

    before, after = texts_of(text, *UNLIMITED), texts_of(text + "More of it. " * 30, *UNLIMITED)

    assert after[: len(before) - 1] == before[:-1]


def test_windows_hold_about_as_much_as_they_are_meant_to() -> None:
    text = "The quick brown fox jumps over the lazy dog, and 17 of them stay.\n" * 50

    windows = texts_of(text, *UNLIMITED, max_tokens=200)

    estimates = [cumulative_size(window)[-1] / TOKEN for window in windows[:-1]]
    assert 0.78 * 200 < min(estimates) <= max(estimates) <= 0.86 * 200


def test_a_window_too_short_for_one_character_is_an_error() -> None:
    with pytest.raises(CorpusInvalid) as caught:
        texts_of("a🎉", 2)

    assert caught.value.code == "window_too_short"
