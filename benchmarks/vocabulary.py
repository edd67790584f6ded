"""Rows about vocabulary maps: which target piece every source piece counts for."""

import os
import time
from collections.abc import Iterator

import numpy as np
from rapidfuzz.distance import Levenshtein

from benchmarks import reference
from benchmarks.measuring import core_seconds
from benchmarks.rows import REFERENCE_FIGURE, Row
from benchmarks.workbench import Workbench
from fusion.alignment.vocab_mapping import NOWHERE, map_exact, map_min_edit_distance
from fusion.alignment.vocabulary import build_vocabulary_map
from fusion.io.tensors import Array
from fusion.llms.token_bytes import TextEncoder

_REPETITIONS = 3
_NUM_CHECKED_PIECES = 40


def rows(bench: Workbench) -> Iterator[Row]:
    """Minimum edit distance from both sources, and the byte-prefix map of the default preset."""
    target = bench.encoders["target"]
    for name in ("llama", "mpt"):
        yield _min_edit_distance(bench.encoders[name], target)
    for name in ("llama", "mpt"):
        yield _byte_prefix(bench.encoders[name], target)


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
