"""Exact agreement with the reference on its own outputs (see tests/golden/README.md)."""

import gzip
import json
from functools import cache
from typing import Any

import numpy as np
import pytest

from fusion.alignment.positions import build_piece_matcher
from fusion.alignment.row_transform import transform_rows
from fusion.alignment.token_alignment import align_dtw, match_one_to_one
from fusion.alignment.vocab_mapping import map_exact, map_min_edit_distance
from fusion.alignment.vocabulary import plain_map
from tests.support.tiny_models import GOLDEN

MARKS = {"llama_like": "▁", "openllama_like": "▁", "mpt_like": "Ġ"}
PAIRS = [("openllama_like", "llama_like"), ("mpt_like", "llama_like"), ("llama_like", "mpt_like")]


@cache
def golden(name: str) -> Any:
    with gzip.open(GOLDEN / name, "rt") as file:
        return [json.loads(line) for line in file] if name.endswith(".jsonl.gz") else json.load(file)


@cache
def min_edit_images(source: str, target: str) -> Any:
    """The map over target ids, with ties in the order of the reference's vocabulary."""
    pieces, order = golden("vocabs.json.gz"), golden("vocab_order.json.gz")[target]
    id_of = {piece: token_id for token_id, piece in enumerate(pieces[target])}
    images = map_min_edit_distance(
        pieces[source], order, source_mark=MARKS[source], target_mark=MARKS[target]
    )
    return np.array([id_of[order[image]] for image in images], dtype=np.int32)


def transform(row: dict[str, Any], *, soft: bool) -> tuple[list[list[int]], list[list[float]]]:
    """Ids and logits of every target position, by the code that preset `paper` runs."""
    pieces = golden("vocabs.json.gz")
    source, target = row["source"], row["base"]
    marks = {"source_mark": MARKS[source], "target_mark": MARKS[target]}
    soft_images = min_edit_images(source, target) if soft else None
    matcher = build_piece_matcher(pieces[target], pieces[source], **marks, soft_images=soft_images)
    images = soft_images if soft else map_exact(pieces[source], pieces[target], **marks)
    base_ids = np.array(row["base_ids"])
    rows = transform_rows(
        matcher.match(base_ids, np.array(row["source_ids"])),
        ids_NK=np.array(row["topk_ids"]),
        weights_NK=np.array(row["topk_logits"]),
        images_3V=plain_map(images).images_3V,
        contexts=np.zeros(len(base_ids), dtype=np.int8),
        num_first=10,
        stand_ins=base_ids,
        target_size=len(pieces[target]),
    )
    cuts = rows.row_starts[1:-1]
    split = np.split(rows.ids, cuts), np.split(rows.weights, cuts)
    return [ids.tolist() for ids in split[0]], [weights.tolist() for weights in split[1]]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_min_edit_distance_maps(source: str, target: str) -> None:
    pieces = golden("vocabs.json.gz")

    images = min_edit_images(source, target)

    swapped = [piece.replace(MARKS[source], MARKS[target]) for piece in pieces[source]]
    found = {piece: pieces[target][image] for piece, image in zip(swapped, images, strict=True)}
    assert found == golden("mined_maps.json.gz")[f"{source}->{target}"]


@pytest.mark.parametrize(
    "row", golden("alignments.jsonl.gz"), ids=lambda row: f"{row['source']}-{row['doc']}"
)
def test_rows(row: dict[str, Any]) -> None:
    matches = align_dtw(
        row["base_tokens"],
        row["source_tokens"],
        target_mark=row["base_prefix"],
        source_mark=row["source_prefix"],
    )

    assert matches == row["matches"]
    assert transform(row, soft=False) == (row["aligned_ids_hard"], row["aligned_logits_hard"])
    assert transform(row, soft=True) == (row["aligned_ids_soft"], row["aligned_logits_soft"])


def test_all_pairs_are_there_and_show_the_quirks() -> None:
    rows = golden("alignments.jsonl.gz")

    assert len(rows) == 42
    assert {(row["source"], row["base"]) for row in rows} == set(PAIRS)
    stand_ins = [
        ids == [current]
        for row in rows
        for ids, current in zip(row["aligned_ids_hard"], row["base_ids"], strict=True)
    ]
    assert any(stand_ins)
    assert any(len(ids) < 10 and len(ids) > 1 for row in rows for ids in row["aligned_ids_soft"])


def test_one_to_one_matches_are_the_lists_of_length_one() -> None:
    pieces = golden("vocabs.json.gz")
    for row in golden("alignments.jsonl.gz")[::7]:
        positions = match_one_to_one(
            np.array(row["base_ids"]),
            np.array(row["source_ids"]),
            target_stripped=[piece.replace(row["base_prefix"], "") for piece in pieces[row["base"]]],
            source_stripped=[piece.replace(row["source_prefix"], "") for piece in pieces[row["source"]]],
        )
        assert positions.tolist() == [match[0] if len(match) == 1 else -1 for match in row["matches"]]
