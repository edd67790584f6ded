"""Rows about vocabulary maps: which target piece every source piece counts for."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from rapidfuzz.distance import Levenshtein

from benchmarks import reference
from benchmarks.measuring import core_seconds
from benchmarks.pieces import MADE_UP_MARK, made_up_pieces
from benchmarks.rows import REFERENCE_FIGURE, SAME_RUN, Row
from benchmarks.workbench import Workbench
from fusion.alignment.vocab_mapping import NOWHERE, map_byte_prefix, map_exact, map_min_edit_distance
from fusion.alignment.vocabulary import build_vocabulary_map
from fusion.io.tensors import Array
from fusion.llms.token_bytes import TextEncoder

_REPETITIONS = 3
_NUM_CHECKED_PIECES = 40
_MAX_GROWTH = 2.0
"""Of the time per piece from the smallest vocabulary to 16 times as many pieces: searches take one step more
per doubling, and tables outgrow the caches."""


def rows(bench: Workbench) -> Iterator[Row]:
    """Minimum edit distance from both sources, and the byte-prefix map of the default preset."""
    target = bench.encoders["target"]
    for name in ("llama", "mpt"):
        yield _min_edit_distance(bench.encoders[name], target)
    for name in ("llama", "mpt"):
        yield _byte_prefix(bench.encoders[name], target)
    yield from _growth(bench.sizes.map_sizes)


def _min_edit_distance(source: TextEncoder, target: TextEncoder) -> Row:
    def build() -> Array:
        return map_min_edit_distance(
            source.pieces, target.pieces, source_mark=source.mark, target_mark=target.mark
        )

    began = time.perf_counter()
    images = build()
    wall_seconds = time.perf_counter() - began
    timed = core_seconds(build, repetitions=_REPETITIONS, warm_up=False)
    num_searched = _require_nearest(images, source, target)
    per_piece = timed.median / max(num_searched, 1)
    return Row(
        name=f"min_edit_distance.{source.size}",
        work=f"{source.size:,} -> {target.size:,} pieces, {num_searched:,} of them without an equal",
        unit="core-ms/searched piece",
        measured=per_piece * 1e3,
        compared=reference.MAPPING_SECONDS_PER_SEARCHED_PIECE * 1e3,
        compared_with="the reference, 50,254 -> 32,000",
        basis=REFERENCE_FIGURE,
        ratio=reference.MAPPING_SECONDS_PER_SEARCHED_PIECE / per_piece,
        direction="at least",
        target_ratio=200.0,
        noise_margin=timed.noise_margin,
        details={"core_seconds": timed.seconds, "wall_seconds": wall_seconds, "cores": os.cpu_count()},
    )


def _require_nearest(images: Array, source: TextEncoder, target: TextEncoder) -> int:
    """Compare some images with a search through all pieces; returns how many pieces have no equal."""
    marks = {"source_mark": source.mark, "target_mark": target.mark}
    searched = np.flatnonzero(map_exact(source.pieces, target.pieces, **marks) == NOWHERE)
    for index in searched[:: max(1, len(searched) // _NUM_CHECKED_PIECES)].tolist():
        piece = source.pieces[index].replace(source.mark, target.mark)
        nearest = min(
            range(target.size), key=lambda other: (Levenshtein.distance(piece, target.pieces[other]), other)
        )
        if images[index] != nearest:
            raise AssertionError(f"{piece!r} was mapped to {images[index]}, nearest is {nearest}")
    return len(searched)


def _byte_prefix(source: TextEncoder, target: TextEncoder) -> Row:
    timed = core_seconds(
        lambda: build_vocabulary_map(source, target, method="byte_prefix"), repetitions=_REPETITIONS
    )
    return Row(
        name=f"byte_prefix_map.{source.size}",
        work=f"{source.size:,} -> {target.size:,} pieces, once per pair of tokenizers",
        unit="core-s",
        measured=timed.median,
        noise_margin=timed.noise_margin,
        details={"core_seconds": timed.seconds},
    )


def _growth(sizes: Sequence[int]) -> Iterator[Row]:
    """Both maps between made-up vocabularies; the paper's one only of the smaller sizes, as it compares
    pieces with pieces."""
    pairs = [made_up_pieces(size) for size in sizes]
    marks = {"source_mark": MADE_UP_MARK, "target_mark": MADE_UP_MARK}
    spelled = [tuple(_spell(pieces) for pieces in pair) for pair in pairs]
    yield _growth_row(
        "byte_prefix_map", sizes, [partial(map_byte_prefix, *pair) for pair in spelled], judged=True
    )
    works = [partial(map_min_edit_distance, *pair, **marks) for pair in pairs[:2]]
    yield _growth_row("min_edit_distance", sizes[:2], works, judged=False)


def _growth_row(
    name: str, sizes: Sequence[int], works: Sequence[Callable[[], Array]], *, judged: bool
) -> Row:
    """Time per piece of the largest vocabulary against that of the smallest."""
    timed = [core_seconds(work, repetitions=_REPETITIONS, warm_up=False) for work in works]
    per_piece = [times.median / size for times, size in zip(timed, sizes, strict=True)]
    return Row(
        name=f"{name}.growth",
        work=f"made-up vocabularies of {sizes[-1]:,} pieces on both sides",
        unit="core-µs/piece",
        measured=per_piece[-1] * 1e6,
        compared=per_piece[0] * 1e6,
        compared_with=f"{sizes[0]:,} pieces",
        basis=SAME_RUN,
        ratio=per_piece[-1] / per_piece[0] if judged else None,
        direction="at most",
        target_ratio=_MAX_GROWTH if judged else None,
        noise_margin=timed[0].noise_margin + timed[-1].noise_margin,
        details={
            "core_seconds": {size: times.seconds for size, times in zip(sizes, timed, strict=True)},
        },
    )


def _spell(pieces: Sequence[str]) -> list[bytes]:
    return [piece.replace(MADE_UP_MARK, " ").encode() for piece in pieces]
