"""Tokens as the bytes they stand for: how text read by different tokenizers is compared.

Everything comes from the tokenizer's own JSON (model type, normaliser, pre-tokenizer, decoder), never from
its class or its path, and from whole pieces, never from character offsets: byte-fallback pieces of one
character share one span, a dummy prefix has a span but consumes nothing, and normalisers move spans.

Letters: `N` tokens of a text, `V` valid ids.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from fusion.errors import CorpusInvalid, ModelUnusable
from fusion.io.tensors import Array

SENTENCEPIECE_MARK = "▁"
BYTE_LEVEL_MARK = "Ġ"
_BYTE_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")

Style = Literal["sentencepiece", "byte_level"]
Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedText:
    """A text as one tokenizer reads it, without start or end tokens.

    ids: int32 [N].
    ends: uint32 [N]; bytes of the text consumed after each token; only meaningful when lossless.
    lossless: whether the pieces concatenate to the text.
    """

    ids: Array
    ends: Array
    lossless: bool


class TextEncoder:
    """A tokenizer that reads plain text and accounts for every byte of it.

    Text that looks like a control token is text. Thread-safe; keeps a copy of the tokenizer's back end.

    start_id: the context every window starts with (BOS, else EOS); it consumes no bytes.
    eos_id: what follows the end of a document.
    size: number of valid ids, holes included.
    pieces, piece_bytes: [size]; the bytes of control tokens and holes are empty.
    mark: the word-boundary mark in `pieces`, `▁` or `Ġ`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        backend_json = tokenizer.backend_tokenizer.to_str()
        structure: Json = json.loads(backend_json)
        self._backend = _plain_text_backend(backend_json)
        style = _style_of(structure)
        self._adds_prefix = _adds_prefix(structure)
        self.mark = SENTENCEPIECE_MARK if style == "sentencepiece" else BYTE_LEVEL_MARK
        self.pieces = _pieces_by_id(self._backend)
        self.size = len(self.pieces)
        self.piece_bytes = _bytes_of_pieces(
            self.pieces, structure=structure, style=style, control_ids=set(tokenizer.all_special_ids)
        )
        self._lengths = np.array([len(data) for data in self.piece_bytes], dtype=np.int64)
        self.eos_id: int | None = tokenizer.eos_token_id
        bos_id: int | None = tokenizer.bos_token_id
        self.start_id: int | None = self.eos_id if bos_id is None else bos_id

    def encode(self, text: str) -> EncodedText:
        """Tokenise `text`.

        Raises:
            CorpusInvalid: the text holds half of a surrogate pair, which no UTF-8 can express.
        """
        raw = _utf8(text)
        # A batch, though of one: other than `encode` it releases the interpreter's lock, and the fast kind
        # skips the character offsets, which nothing here reads.
        token_ids = self._backend.encode_batch_fast([text], add_special_tokens=False)[0].ids
        ids = np.array(token_ids, dtype=np.int32)
        ends = np.cumsum(self._lengths[ids])
        spelled = self.spell(token_ids)
        lossless = spelled == raw
        if not lossless and self._adds_prefix and spelled[:1] == b" " and spelled[1:] == raw:
            # The dummy prefix is the first byte of the first piece and stands for nothing in the text.
            ends, lossless = np.maximum(ends - 1, 0), True
        return EncodedText(ids=ids, ends=ends.astype(np.uint32), lossless=lossless)

    def spell(self, token_ids: Iterable[int]) -> bytes:
        """The pieces' bytes one after the other, a dummy prefix included."""
        return b"".join([self.piece_bytes[token_id] for token_id in token_ids])


def piece_bytes(tokenizer: PreTrainedTokenizerFast) -> list[bytes]:
    """Bytes of every id in id order; empty for control tokens.

    Raises:
        ModelUnusable: pieces of this kind of tokenizer do not spell bytes.
    """
    return TextEncoder(tokenizer).piece_bytes


def encode_with_ends(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[Array, Array, bool]:
    """(ids int32 [N], ends uint32 [N], lossless) of one text; for many texts keep a `TextEncoder`."""
    encoded = TextEncoder(tokenizer).encode(text)
    return encoded.ids, encoded.ends, encoded.lossless


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CorpusInvalid(
            f"the text holds a lone surrogate (U+{ord(text[error.start]):04X} at character {error.start}), "
            "which UTF-8 cannot express",
            code="corpus_not_utf8",
            hint="write the text again from its origin as valid UTF-8",
        ) from error


def _plain_text_backend(backend_json: str) -> Tokenizer:
    """A copy that reads control tokens as text and neither truncates nor pads."""
    backend = Tokenizer.from_str(backend_json)
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return backend


def _parts(structure: Json, section: str) -> Iterator[Json]:
    """The components of `normalizer`, `pre_tokenizer` or `decoder`, sequences laid flat."""
    pending = [structure.get(section)]
    while pending:
        part = pending.pop(0)
        if part is None:
            continue
        if part["type"] == "Sequence":
            pending = [*chain.from_iterable(part.get(key, []) for key in _SEQUENCE_KEYS), *pending]
        else:
            yield part


_SECTIONS = ("normalizer", "pre_tokenizer", "decoder")
_SEQUENCE_KEYS = ("normalizers", "pretokenizers", "decoders")


def _style_of(structure: Json) -> Style:
    """How pieces spell bytes.

    Raises:
        ModelUnusable: neither of the two known ways.
    """
    model = structure["model"]
    affixes = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
    if model["type"] in ("BPE", "Unigram") and not affixes:
        parts = [
            part
            for section in ("pre_tokenizer", "decoder", "normalizer")
            for part in _parts(structure, section)
        ]
        if any(part["type"] == "ByteLevel" for part in parts):
            return "byte_level"
        if any(part["type"] == "Metaspace" or _replaces_spaces(part) for part in parts):
            return "sentencepiece"
    raise ModelUnusable(
        f"the pieces of this {model['type']} tokenizer do not spell bytes: expected byte-level BPE, or "
        f"sentencepiece BPE or Unigram (spaces written as {SENTENCEPIECE_MARK})",
        code="tokenizer_unsupported",
        hint="choose a model whose tokenizer is byte-level BPE or sentencepiece",
    )


def _replaces_spaces(part: Json) -> bool:
    return part["type"] == "Replace" and SENTENCEPIECE_MARK in (
        part["content"],
        part["pattern"].get("String"),
    )


def _adds_prefix(structure: Json) -> bool:
    """Whether a space that is not in the text is put in front of it."""
    parts = [part for section in ("normalizer", "pre_tokenizer") for part in _parts(structure, section)]
    return any(
        part["type"] == "Prepend"
        or part.get("prepend_scheme") in ("first", "always")
        or (part.get("prepend_scheme") is None and bool(part.get("add_prefix_space")))
        for part in parts
    )


def _pieces_by_id(backend: Tokenizer) -> list[str]:
    """Pieces in id order; empty where an id is not used."""
    vocabulary: dict[str, int] = backend.get_vocab(with_added_tokens=True)
    pieces = [""] * (max(vocabulary.values(), default=-1) + 1)
    for piece, token_id in vocabulary.items():
        pieces[token_id] = piece
    return pieces


def _bytes_of_pieces(
    pieces: list[str], *, structure: Json, style: Style, control_ids: set[int]
) -> list[bytes]:
    added = {token["id"]: token for token in structure["added_tokens"]}
    controls = control_ids | {token_id for token_id, token in added.items() if token["special"]}
    falls_back = bool(structure["model"].get("byte_fallback")) or any(
        part["type"] == "ByteFallback" for part in _parts(structure, "decoder")
    )
    spelled: list[bytes] = []
    for token_id, piece in enumerate(pieces):
        if token_id in controls or piece == structure["model"].get("unk_token"):
            spelled.append(b"")
        elif style == "byte_level":
            spelled.append(piece.encode() if token_id in added else _byte_level_bytes(piece))
        else:
            spelled.append(_sentencepiece_bytes(piece, falls_back=falls_back))
    return spelled


def _sentencepiece_bytes(piece: str, *, falls_back: bool) -> bytes:
    fallback = _BYTE_FALLBACK.fullmatch(piece) if falls_back else None
    if fallback is not None:
        return bytes([int(fallback.group(1), 16)])
    return piece.replace(SENTENCEPIECE_MARK, " ").encode()


def _byte_level_bytes(piece: str) -> bytes:
    """Bytes behind the characters of GPT-2's alphabet; a piece outside of it stands for itself."""
    if all(character in _BYTE_OF_CHARACTER for character in piece):
        return bytes(_BYTE_OF_CHARACTER[character] for character in piece)
    return piece.encode()


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable character for every byte, reversed.

    Reference: `bytes_to_unicode` in https://github.com/openai/gpt-2/blob/master/src/encoder.py
    """
    spans = (("!", "~"), ("¡", "¬"), ("®", "ÿ"))
    printable = [byte for first, last in spans for byte in range(ord(first), ord(last) + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    alphabet.update({chr(256 + index): byte for index, byte in enumerate(others)})
    return alphabet


_BYTE_OF_CHARACTER = _byte_alphabet()
