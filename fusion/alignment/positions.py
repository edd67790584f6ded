"""Token alignment of whole windows: for every target row the row of one source that speaks for it.

Letters: `V` ids of the source, `T` target rows, `N` source rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusion.alignment.row_transform import UNALIGNED
from fusion.alignment.token_alignment import align_boundaries, match_one_to_one
from fusion.alignment.vocab_mapping import NOWHERE, map_exact
from fusion.io.tensors import Array
from fusion.llms.token_bytes import BYTE_LEVEL_MARK, SENTENCEPIECE_MARK


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceMatcher:
    """What `dtw` knows of a pair of tokenizers.

    target_stripped, source_stripped: pieces without their word-boundary marks, in id order.
    target_marked: bool [target size]; pieces that begin with the mark.
    images: int32 [V]; the target id that each source id may stand opposite to, -1 for none.
    first_images: int32 [V]; the same opposite to a marked piece at the first token of a text, which a
        byte-level tokenizer writes without the mark and a sentencepiece one with it.
    """

    target_stripped: list[str]
    source_stripped: list[str]
    target_marked: Array
    images: Array
    first_images: Array

    def match(self, target_ids: Array, source_ids: Array) -> Array:
        """int32 [T]; the source position that speaks for each target position of a text, -1 where none.

        It does when the warp matches exactly these two and their pieces are images of each other.
        """
        positions = match_one_to_one(
            target_ids, source_ids, target_stripped=self.target_stripped, source_stripped=self.source_stripped
        )
        matched = np.flatnonzero(positions != UNALIGNED)
        images = self.images[source_ids[positions[matched]]]
        if len(matched) > 0 and matched[0] == 0 and self.target_marked[target_ids[0]]:
            images[0] = self.first_images[source_ids[positions[0]]]
        positions[matched[images != target_ids[matched]]] = UNALIGNED
        return positions


def build_piece_matcher(
    target_pieces: Sequence[str],
    source_pieces: Sequence[str],
    *,
    target_mark: str,
    source_mark: str,
    soft_images: Array | None,
) -> PieceMatcher:
    """Prepare `dtw` for a pair of tokenizers; pieces in id order.

    Args:
        soft_images: int32 [V]; the minimum-edit-distance map. Without it pieces must be equal (`hard`).

    Reference: `transform_step_logits` of FuseLLM, https://arxiv.org/abs/2401.10491
    """
    if soft_images is None:
        images = map_exact(source_pieces, target_pieces, source_mark=source_mark, target_mark=target_mark)
    else:
        images = soft_images
    first_images = images
    if (source_mark, target_mark) == (BYTE_LEVEL_MARK, SENTENCEPIECE_MARK):
        first_images = _first_images(images, target_pieces, source_pieces, soft=soft_images is not None)
    return PieceMatcher(
        target_stripped=[piece.replace(target_mark, "") for piece in target_pieces],
        source_stripped=[piece.replace(source_mark, "") for piece in source_pieces],
        target_marked=np.array([piece.startswith(target_mark) for piece in target_pieces], dtype=bool),
        images=images,
        first_images=first_images,
    )


def _first_images(
    images: Array, target_pieces: Sequence[str], source_pieces: Sequence[str], *, soft: bool
) -> Array:
    """Images of the source's pieces as if each began with the mark."""
    marked = [
        piece if piece.startswith(BYTE_LEVEL_MARK) else BYTE_LEVEL_MARK + piece for piece in source_pieces
    ]
    first_images = map_exact(
        marked, target_pieces, source_mark=BYTE_LEVEL_MARK, target_mark=SENTENCEPIECE_MARK
    )
    if soft:
        own = map_exact(marked, source_pieces, source_mark=BYTE_LEVEL_MARK, target_mark=BYTE_LEVEL_MARK)
        borrowed = np.where(own == NOWHERE, np.int32(NOWHERE), images[own])
        first_images = np.where(first_images == NOWHERE, borrowed, first_images)
    return first_images


def align_by_ends(target_ends: Array, source_ends: Array, *, strict: bool) -> Array:
    """Align the rows of one window by the bytes consumed; the two start tokens with each other.

    Args:
        target_ends: [T]; from the start token on, without a closing EOS.
        source_ends: [N]; the same for the source.

    Returns:
        int32 [T]; row of the source in the window, -1 where none.
    """
    text = align_boundaries(target_ends[1:], source_ends[1:], strict=strict)
    agree = not strict or target_ends[1:2].tolist() == source_ends[1:2].tolist()
    return _after_start(text, start=0 if agree else UNALIGNED)


def align_by_pieces(target_ids: Array, source_ids: Array, *, matcher: PieceMatcher) -> Array:
    """Align the rows of one window by warping; the two start tokens with each other.

    Args:
        target_ids: ids of the text, without start token and closing EOS.
        source_ids: the same for the source.

    Returns:
        int32; row of the source for the target's start token and every token of its text, -1 where none.
    """
    return _after_start(matcher.match(target_ids, source_ids), start=0)


def _after_start(text: Array, *, start: int) -> Array:
    """Rows of a window from the positions of its text."""
    return np.concatenate([[start], np.where(text == UNALIGNED, UNALIGNED, text + 1)]).astype(np.int32)
