"""The vocabulary map of one source, with the care that control tokens and the start of a text need.

Letters: `V` ids of the source.
"""

import re
from dataclasses import dataclass

import numpy as np

from fusion.alignment.row_transform import Context
from fusion.alignment.vocab_mapping import NOWHERE, map_byte_prefix, map_exact, map_min_edit_distance
from fusion.io.tensors import Array
from fusion.llms.token_bytes import SENTENCEPIECE_MARK, TextEncoder
from fusion.spec import VocabularyMap as MapName

_BYTE_FALLBACK = re.compile(r"<0x[0-9A-Fa-f]{2}>")


@dataclass(frozen=True, kw_only=True, slots=True)
class VocabularyMap:
    """Which target id every id of a source counts for, -1 for nowhere.

    images_3V: int32 [3, V]; one set per `Context`.
    collapses: bool [V]; whitespace that counts for a shorter run of whitespace.
    """

    images_3V: Array
    collapses: Array

    @property
    def size(self) -> int:
        """V; ids at or above it are not the source's."""
        return len(self.collapses)


def identity_map(size: int, *, num_ids: int | None = None) -> VocabularyMap:
    """The map of the target itself; ids from `num_ids` on map nowhere."""
    images = np.arange(size, dtype=np.int32)
    return plain_map(images if num_ids is None else np.where(images < num_ids, images, NOWHERE))


def plain_map(images: Array) -> VocabularyMap:
    """A map that is the same everywhere in a text and collapses nothing."""
    return VocabularyMap(
        images_3V=np.stack([images] * len(Context)), collapses=np.zeros(len(images), dtype=bool)
    )


def build_vocabulary_map(
    source: TextEncoder, target: TextEncoder, *, method: MapName, num_ids: int | None = None
) -> VocabularyMap:
    """Map a source's vocabulary to the target's.

    Control tokens map nowhere, whatever they are spelled like, but for EOS, which maps to the target's EOS.

    Args:
        num_ids: target ids from here on are no images; None: all ids of its tokenizer may be.
    """
    num_ids = target.size if num_ids is None else num_ids
    if method == "byte_prefix":
        images_3V = _byte_prefix_images(source, target, num_ids)
    else:
        images_3V = np.stack([_piece_images(source, target, num_ids, method=method)] * len(Context))
    controls = np.array([not data for data in source.piece_bytes], dtype=bool)
    images_3V[:, controls] = NOWHERE
    if source.eos_id is not None and target.eos_id is not None and target.eos_id < num_ids:
        images_3V[:, source.eos_id] = target.eos_id
    collapses = np.zeros(source.size, dtype=bool)
    if method == "byte_prefix":
        collapses = _collapses(source, target, images_3V[Context.INSIDE])
    return VocabularyMap(images_3V=images_3V, collapses=collapses)


def _piece_images(source: TextEncoder, target: TextEncoder, num_ids: int, *, method: MapName) -> Array:
    """`exact` or `min_edit_distance` over the target's pieces in id order, holes left out."""
    used = np.flatnonzero([piece != "" for piece in target.pieces[:num_ids]]).astype(np.int32)
    map_pieces = map_exact if method == "exact" else map_min_edit_distance
    positions = map_pieces(
        source.pieces,
        [target.pieces[token_id] for token_id in used],
        source_mark=source.mark,
        target_mark=target.mark,
    )
    return np.where(positions == NOWHERE, np.int32(NOWHERE), used[positions])


def _byte_prefix_images(source: TextEncoder, target: TextEncoder, num_ids: int) -> Array:
    """int32 [3, V]; a set per `Context`.

    Most tokenizers with a dummy prefix add none to a text that begins with a space. There a marked piece of
    the source stands for all its bytes; what begins without a space is met as at any other start. A source
    without a dummy prefix says itself whether the text begins with a space, so for it all starts are one.
    """
    target_bytes = target.piece_bytes[:num_ids]
    fallback = np.array([_is_fallback(target, token_id) for token_id in range(num_ids)], dtype=bool)
    images = map_byte_prefix(source.piece_bytes, target_bytes, fallback=fallback)

    def at_start_of(text: str) -> Array:
        source_adds, target_adds = _adds_prefix(source, text), _adds_prefix(target, text)
        if not (source_adds or target_adds):
            return images
        source_bytes = source.piece_bytes
        if source_adds:
            source_bytes = [data.removeprefix(b" ") for data in source_bytes]
        if not target_adds:
            return map_byte_prefix(source_bytes, target_bytes, fallback=fallback)
        return _prefixed_images(source_bytes, target_bytes, fallback=fallback)

    start, spaced_start = at_start_of("x"), at_start_of(" x")
    if spaced_start is images:
        begins_spaced = np.array([data.startswith(b" ") for data in source.piece_bytes], dtype=bool)
        spaced_start = np.where(begins_spaced, images, start)
        if not _adds_prefix(source, "x"):
            start = spaced_start
    return np.stack([images, start, spaced_start])


def _prefixed_images(source_bytes: list[bytes], target_bytes: list[bytes], *, fallback: Array) -> Array:
    """Images at the start of a text that the target spells with a space that is not in it.

    There its pieces stand for one byte less, no piece without that space can come first, and what no piece
    covers is left to the lone space.
    """
    prefixed = [
        data[1:] if data.startswith(b" ") and not falls_back else b""
        for data, falls_back in zip(target_bytes, fallback.tolist(), strict=True)
    ]
    images = map_byte_prefix(source_bytes, prefixed)
    lone_space = map_byte_prefix([b" "], target_bytes, fallback=fallback)[0]
    return np.where(images == NOWHERE, lone_space, images)


def _is_fallback(encoder: TextEncoder, token_id: int) -> bool:
    return (
        encoder.mark == SENTENCEPIECE_MARK and _BYTE_FALLBACK.fullmatch(encoder.pieces[token_id]) is not None
    )


def _adds_prefix(encoder: TextEncoder, text: str) -> bool:
    """Whether a space that is not in the text is put in front of it."""
    spelled = encoder.spell(encoder.encode(text).ids.tolist())
    return len(spelled) - len(spelled.lstrip(b" ")) > len(text) - len(text.lstrip(" "))


def _collapses(source: TextEncoder, target: TextEncoder, images: Array) -> Array:
    return np.array(
        [
            image != NOWHERE and data.isspace() and len(target.piece_bytes[image]) < len(data)
            for data, image in zip(source.piece_bytes, images.tolist(), strict=True)
        ],
        dtype=bool,
    )
