"""The vocabulary map of one source, with the care that control tokens and the start of a text need.

Letters: `V` ids of the source.
"""

import re
from dataclasses import dataclass

import numpy as np

from fusion.alignment.vocab_mapping import NOWHERE, map_byte_prefix, map_exact, map_min_edit_distance
from fusion.io.tensors import Array
from fusion.llms.token_bytes import SENTENCEPIECE_MARK, TextEncoder
from fusion.spec import VocabularyMap as MapName

_BYTE_FALLBACK = re.compile(r"<0x[0-9A-Fa-f]{2}>")


@dataclass(frozen=True, kw_only=True, slots=True)
class VocabularyMap:
    """Which target id every id of a source counts for, -1 for nowhere.

    images_2V: int32 [2, V]; inside a text, and at its start.
    collapses: bool [V]; whitespace that counts for a shorter run of whitespace.
    """

    images_2V: Array
    collapses: Array

    @property
    def size(self) -> int:
        """V; ids at or above it are not the source's."""
        return len(self.collapses)


def identity_map(size: int) -> VocabularyMap:
    """The map of the target itself."""
    return plain_map(np.arange(size, dtype=np.int32))


def plain_map(images: Array) -> VocabularyMap:
    """A map that is the same everywhere in a text and collapses nothing."""
    return VocabularyMap(images_2V=np.stack([images, images]), collapses=np.zeros(len(images), dtype=bool))


def build_vocabulary_map(source: TextEncoder, target: TextEncoder, *, method: MapName) -> VocabularyMap:
    """Map a source's vocabulary to the target's.

    Control tokens map nowhere, whatever they are spelled like, but for EOS, which maps to the target's EOS.
    """
    if method == "byte_prefix":
        images, start_images = _byte_prefix_images(source, target)
    else:
        images = start_images = _piece_images(source, target, method=method)
    controls = np.array([not data for data in source.piece_bytes], dtype=bool)
    images_2V = np.stack([images, start_images])
    images_2V[:, controls] = NOWHERE
    if source.eos_id is not None and target.eos_id is not None:
        images_2V[:, source.eos_id] = target.eos_id
    collapses = np.zeros(source.size, dtype=bool)
    if method == "byte_prefix":
        collapses = _collapses(source, target, images_2V[0])
    return VocabularyMap(images_2V=images_2V, collapses=collapses)


def _piece_images(source: TextEncoder, target: TextEncoder, *, method: MapName) -> Array:
    """`exact` or `min_edit_distance` over the target's pieces in id order, holes left out."""
    used = np.array([token_id for token_id, piece in enumerate(target.pieces) if piece], dtype=np.int32)
    map_pieces = map_exact if method == "exact" else map_min_edit_distance
    positions = map_pieces(
        source.pieces,
        [target.pieces[token_id] for token_id in used],
        source_mark=source.mark,
        target_mark=target.mark,
    )
    return np.where(positions == NOWHERE, np.int32(NOWHERE), used[positions])


def _byte_prefix_images(source: TextEncoder, target: TextEncoder) -> tuple[Array, Array]:
    """Images inside a text, and at its start.

    A tokenizer with a dummy prefix spells the first word with a space that is not in the text. There its
    pieces stand for one byte less, no piece without that space can come first, and what no piece covers is
    left to the lone space.
    """
    fallback = np.array([_is_fallback(target, token_id) for token_id in range(target.size)], dtype=bool)
    images = map_byte_prefix(source.piece_bytes, target.piece_bytes, fallback=fallback)
    if not (_adds_prefix(source) or _adds_prefix(target)):
        return images, images
    source_bytes, target_bytes = source.piece_bytes, target.piece_bytes
    if _adds_prefix(source):
        source_bytes = [data.removeprefix(b" ") for data in source_bytes]
    if not _adds_prefix(target):
        return images, map_byte_prefix(source_bytes, target_bytes, fallback=fallback)
    prefixed = [
        data[1:] if data.startswith(b" ") and not falls_back else b""
        for data, falls_back in zip(target_bytes, fallback.tolist(), strict=True)
    ]
    start_images = map_byte_prefix(source_bytes, prefixed)
    lone_space = map_byte_prefix([b" "], target_bytes, fallback=fallback)[0]
    start_images[start_images == NOWHERE] = lone_space
    return images, start_images


def _is_fallback(encoder: TextEncoder, token_id: int) -> bool:
    return (
        encoder.mark == SENTENCEPIECE_MARK and _BYTE_FALLBACK.fullmatch(encoder.pieces[token_id]) is not None
    )


def _adds_prefix(encoder: TextEncoder) -> bool:
    """Whether a space that is not in the text is put in front of it."""
    ids = encoder.encode("x").ids
    return len(ids) > 0 and encoder.piece_bytes[int(ids[0])].startswith(b" ")


def _collapses(source: TextEncoder, target: TextEncoder, images: Array) -> Array:
    return np.array(
        [
            image != NOWHERE and data.isspace() and len(target.piece_bytes[image]) < len(data)
            for data, image in zip(source.piece_bytes, images.tolist(), strict=True)
        ],
        dtype=bool,
    )
