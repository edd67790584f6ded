"""Cutting documents into windows that every tokenizer of the job can read whole.

A window ends after a line end if there is one in its second half, else before a space, else between two
characters. Text is never decoded and encoded again: the windows concatenate to the document.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fusion.errors import CorpusInvalid
from fusion.llms.token_bytes import EncodedText, TextEncoder

_GUESSED_CHARACTERS_PER_TOKEN = 4
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


def cut_document(text: str, *, readers: Sequence[Reader]) -> Iterator[Cut]:
    """The windows of a document; each was encoded by every reader and lies within its limit."""
    start = 0
    num_guessed = _GUESSED_CHARACTERS_PER_TOKEN * min(reader.max_tokens for reader in readers)
    while start < len(text):
        cut = _next_cut(text, start=start, num_guessed=num_guessed, readers=readers)
        yield cut
        start += len(cut.text)
        # The next window is about as long; a little more shows where it has to end.
        num_guessed = len(cut.text) * 5 // 4 + 1


def _next_cut(text: str, *, start: int, num_guessed: int, readers: Sequence[Reader]) -> Cut:
    """The longest window from `start` on, as far as its end is a good place."""
    cut = _encode(text[start : start + num_guessed], readers=readers)
    while _fits(cut, readers=readers):
        if start + len(cut.text) == len(text):
            return cut
        num_guessed *= 2
        cut = _encode(text[start : start + num_guessed], readers=readers)
    segment = cut.text
    while not _fits(cut, readers=readers):
        if len(cut.text) == 1:
            raise CorpusInvalid(
                f"the character {cut.text!r} alone exceeds the window of a tokenizer",
                code="window_too_short",
                hint="raise corpus.max_tokens_per_window",
                pointer="/corpus/max_tokens_per_window",
            )
        # A shorter text may be tokenised otherwise at its end, hence the loop.
        longest = min(len(cut.text) - 1, *_lengths_within(cut, readers=readers))
        cut = _encode(segment[: _good_end(segment, max(longest, 1))], readers=readers)
    return cut


def _encode(text: str, *, readers: Sequence[Reader]) -> Cut:
    return Cut(text=text, encodings=tuple(reader.encoder.encode(text) for reader in readers))


def _fits(cut: Cut, *, readers: Sequence[Reader]) -> bool:
    return all(
        len(encoded.ids) <= reader.max_tokens for encoded, reader in zip(cut.encodings, readers, strict=True)
    )


def _lengths_within(cut: Cut, *, readers: Sequence[Reader]) -> list[int]:
    """Per reader, how many characters of the text its limit allows."""
    raw = cut.text.encode()
    lengths: list[int] = []
    for encoded, reader in zip(cut.encodings, readers, strict=True):
        if len(encoded.ids) <= reader.max_tokens:
            lengths.append(len(cut.text))
        elif encoded.lossless:
            num_bytes = int(encoded.ends[reader.max_tokens - 1])
            lengths.append(len(raw[:num_bytes].decode("utf-8", errors="ignore")))
        else:
            lengths.append(len(cut.text) * reader.max_tokens // len(encoded.ids))
    return lengths


def _good_end(text: str, longest: int) -> int:
    """The best place to end within the first `longest` characters; at least 1."""
    half = longest // 2
    line_end = text.rfind("\n", half, longest)
    if line_end >= 0:
        return line_end + 1
    # A space belongs to the word behind it: that is how tokenizers see it.
    space = max(text.rfind(character, half + 1, longest + 1) for character in _SPACES)
    return space if space > 0 else longest
