"""Worlds small enough to be summed over: a model of bytes, and tokenizers that read what it writes.

`ByteModel` writes every text up to a length with a known probability. What a perfect model would predict with
a tokenizer, after any tokens, is then a sum over texts: `true_rows`.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fusion.io.captures import Capture
from fusion.llms.token_bytes import TextEncoder
from tests.fusion.alignment.captures_by_hand import capture_of

ALPHABET = "ab "
Prefix = tuple[int, ...]
Row = dict[int, float]


@dataclass(frozen=True, slots=True)
class ByteModel:
    """An order-2 Markov model over `ALPHABET`; a text may end after any letter and must at `max_length`."""

    seed: int
    max_length: int

    def texts(self) -> dict[str, float]:
        """Every text and its probability; together they are certain."""
        rng = np.random.default_rng(self.seed)
        contexts = ["".join(letters) for length in range(3) for letters in product(ALPHABET, repeat=length)]
        rows = {context: rng.dirichlet([1.0] * len(ALPHABET) + [0.5]) for context in contexts}
        found: dict[str, float] = {}

        def write(text: str, probability: float) -> None:
            *letters, end = rows[text[-2:]].tolist()
            if len(text) == self.max_length:
                found[text] = probability
                return
            found[text] = probability * end
            for letter, share in zip(ALPHABET, letters, strict=True):
                write(text + letter, probability * share)

        write("", 1.0)
        return found


def byte_level(merges: Sequence[tuple[str, str]]) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the alphabet; a space is written `Ġ`."""
    backend = _bpe(["Ġ", "a", "b"], merges)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")


def sentencepiece(merges: Sequence[tuple[str, str]]) -> PreTrainedTokenizerFast:
    """Sentencepiece-like BPE over the alphabet, with the dummy prefix; a space is written `▁`."""
    marked = [(first.replace("Ġ", "▁"), second.replace("Ġ", "▁")) for first, second in merges]
    backend = _bpe(["▁", "a", "b"], marked)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")


def _bpe(letters: list[str], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    pieces = dict.fromkeys([*letters, *(first + second for first, second in merges)])
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return Tokenizer(models.BPE(vocab=vocabulary, merges=list(dict.fromkeys(merges))))


@dataclass(frozen=True, slots=True)
class Reading:
    """A document in tokens, EOS the last of them, and the bytes read after each number of tokens."""

    ids: Prefix
    ends: tuple[int, ...]

    def is_over(self, num_tokens: int) -> bool:
        """Whether EOS follows."""
        return num_tokens == len(self.ids) - 1


def read_texts(encoder: TextEncoder, texts: Iterable[str]) -> dict[str, Reading]:
    """Every text as one tokenizer reads it."""
    assert encoder.eos_id is not None
    found = {}
    for text in texts:
        encoded = encoder.encode(text)
        assert encoded.lossless
        found[text] = Reading((*encoded.ids.tolist(), encoder.eos_id), (0, *encoded.ends.tolist()))
    return found


def texts_after(readings: dict[str, Reading]) -> dict[Prefix, frozenset[str]]:
    """The texts that begin with these tokens, for all tokens that begin one."""
    found: dict[Prefix, set[str]] = defaultdict(set)
    for text, reading in readings.items():
        for length in range(len(reading.ids)):
            found[reading.ids[:length]].add(text)
    return {prefix: frozenset(members) for prefix, members in found.items()}


def true_rows(readings: dict[str, Reading], probabilities: dict[str, float]) -> dict[Prefix, Row]:
    """What a perfect model predicts with this tokenizer after the given tokens of a text."""
    sums: dict[Prefix, Row] = defaultdict(lambda: defaultdict(float))
    for text, reading in readings.items():
        for length, token_id in enumerate(reading.ids):
            sums[reading.ids[:length]][token_id] += probabilities[text]
    return {
        prefix: {token_id: mass / sum(row.values()) for token_id, mass in row.items()}
        for prefix, row in sums.items()
    }


def perfect_capture(
    readings: dict[str, Reading],
    rows: dict[Prefix, Row],
    *,
    size: int,
    top_k: int,
    dtype: type[np.floating[Any]] = np.float32,
) -> Capture:
    """What `extract` would write of a model that predicts `rows`, every text being a window."""
    places = [(each.ids[:length]) for each in readings.values() for length in range(len(each.ids))]
    probabilities = np.zeros((len(places), size))
    for number, prefix in enumerate(places):
        probabilities[number, list(rows[prefix])] = list(rows[prefix].values())
    with np.errstate(divide="ignore"):
        return capture_of(
            probabilities,
            window_starts=np.cumsum([0, *(len(each.ids) for each in readings.values())]).tolist(),
            ends=[end for each in readings.values() for end in each.ends],
            next_ids=[token_id for each in readings.values() for token_id in each.ids],
            top_k=min(top_k, size),
            dtype=dtype,
        )
