"""Cutting documents into windows that every tokenizer of the job can read whole.

Where a window ends is a question to the text alone as long as all tokenizers accept the answer: a fixed share
of `max_tokens_per_window` by an estimate that no tokenizer takes part in. Only a window that is too long for
one of them is halved, again and again, at a place that the text decides. So two jobs over the same text have
the same windows, or few that differ, whatever their models, and share what was captured of them.

A window ends after a line end if there is one in its last quarter, else before a space, else between two
characters. Text is never decoded and encoded again: the windows concatenate to the document.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fusion.corpus.text_size import TOKEN, cumulative_size
from fusion.errors import CorpusInvalid
from fusion.io.tensors import Array
from fusion.llms.token_bytes import EncodedText, TextEncoder

_FILL_PERCENT = 86
"""Estimated fill of a window. More would be too long for one of two usual tokenizers too often."""
_GUESSED_CHARACTERS_PER_TOKEN = 6
_SPACES = (" ", "\t")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """A tokenizer and the number of tokens of text it may read at once (start and end token not counted)."""

    encoder: TextEncoder
    max_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A window's text, and how each reader encodes it, in the order of the readers."""

    text: str
    encodings: tuple[EncodedText, ...]


def cut_document(text: str, *, readers: Sequence[Reader], max_tokens: int) -> Iterator[Cut]:
    """The windows of a document; each was encoded by every reader and lies within its limit.

    Args:
        max_tokens: what a window is meant to hold, the same for all jobs that shall share windows.
    """
    start = 0
    while start < len(text):
        piece = _piece_from(text, start=start, max_tokens=max_tokens)
        yield from _halve_until_it_fits(piece, readers=readers)
        start += len(piece)


def _piece_from(text: str, *, start: int, max_tokens: int) -> str:
    """The text from `start` to the next place to cut; the rest of the document where it is short."""
    budget = max(max_tokens * TOKEN * _FILL_PERCENT // 100, TOKEN)
    num_seen = _GUESSED_CHARACTERS_PER_TOKEN * max_tokens
    while True:
        seen = text[start : start + num_seen]
        sizes = cumulative_size(seen)
        if sizes[-1] > budget:
            return seen[: _good_end(seen, _length_within(sizes, budget))]
        if start + num_seen >= len(text):
            return seen
        num_seen *= 2


def _length_within(sizes: Array, budget: int) -> int:
    """How many characters stay within the budget; at least 1."""
    return max(1, int(np.searchsorted(sizes, budget, side="right")) - 1)


def _halve_until_it_fits(piece: str, *, readers: Sequence[Reader]) -> Iterator[Cut]:
    cut = _encode_if_it_fits(piece, readers=readers)
    if cut is not None:
        yield cut
        return
    if len(piece) == 1:
        raise CorpusInvalid(
            f"the character {piece!r} alone exceeds the window of a tokenizer",
            code="window_too_short",
            hint="raise corpus.max_tokens_per_window",
            pointer="/corpus/max_tokens_per_window",
        )
    sizes = cumulative_size(piece)
    middle = min(_good_end(piece, _length_within(sizes, int(sizes[-1]) // 2)), len(piece) - 1)
    yield from _halve_until_it_fits(piece[:middle], readers=readers)
    yield from _halve_until_it_fits(piece[middle:], readers=readers)


def _encode_if_it_fits(text: str, *, readers: Sequence[Reader]) -> Cut | None:
    encodings: list[EncodedText] = []
    for reader in readers:
        encodings.append(reader.encoder.encode(text))
        if len(encodings[-1].ids) > reader.max_tokens:
            return None
    return Cut(text=text, encodings=tuple(encodings))


def _good_end(text: str, longest: int) -> int:
    """The best place to end within the first `longest` characters; at least 1."""
    line_end = text.rfind("\n", longest * 3 // 4, longest)
    if line_end >= 0:
        return line_end + 1
    # A space belongs to the word behind it: that is how tokenizers see it.
    space = max(text.rfind(character, longest // 2 + 1, longest + 1) for character in _SPACES)
    return space if space > 0 else longest
