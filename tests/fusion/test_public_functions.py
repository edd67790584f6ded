"""The functions that others call with their own data: names, parameters, types and the edges of each."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fusion.alignment.token_alignment import align_boundaries, align_dtw
from fusion.alignment.vocab_mapping import map_byte_prefix, map_min_edit_distance
from fusion.llms.token_bytes import encode_with_ends, piece_bytes
from fusion.training.losses import NO_ID, fusion_loss, sparse_cross_entropy
from tests.support.tiny_models import SPECIAL_TOKENS, load_golden_tokenizer

SIGNATURES: list[tuple[Callable[..., Any], list[str], list[str]]] = [
    (align_dtw, ["target_pieces", "source_pieces"], ["target_mark", "source_mark"]),
    (align_boundaries, ["target_ends", "source_ends"], []),
    (map_min_edit_distance, ["source_pieces", "target_pieces"], ["source_mark", "target_mark"]),
    (map_byte_prefix, ["source_bytes", "target_bytes"], []),
    (piece_bytes, ["tokenizer"], []),
    (encode_with_ends, ["tokenizer", "text"], []),
    (sparse_cross_entropy, ["logits", "target_ids", "target_weights"], ["tail"]),
    (fusion_loss, ["logits", "targets"], ["objective"]),
]
MARKS = {"source_mark": "Ġ", "target_mark": "▁"}


@pytest.mark.parametrize(
    ("function", "subjects", "keywords"), SIGNATURES, ids=[signature[0].__name__ for signature in SIGNATURES]
)
def test_parameters_are_those_agreed_upon(
    function: Callable[..., Any], subjects: list[str], keywords: list[str]
) -> None:
    parameters = inspect.signature(function).parameters.values()

    required = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    named = {each.name: each for each in parameters if each.kind is each.KEYWORD_ONLY}
    assert required == subjects
    assert set(keywords) <= named.keys()
    assert all(each.default is not each.empty for name, each in named.items() if name not in keywords)


@pytest.mark.parametrize("sequence", [list, tuple, np.array])
def test_pieces_may_come_in_any_sequence(sequence: Callable[[list[str]], Any]) -> None:
    target, source = sequence(["▁ab", "c"]), sequence(["Ġa", "b", "c"])

    assert align_dtw(target, source, **MARKS) == [[0, 1], [2]]
    assert map_min_edit_distance(source, target, **MARKS).tolist() == [0, 1, 1]


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.float64])
def test_ends_may_have_any_number_type(dtype: type[np.generic]) -> None:
    positions = align_boundaries(np.array([2, 3, 6], dtype), np.array([1, 3, 6], dtype))

    assert positions.dtype == np.int32
    assert positions.tolist() == [-1, 1, 2]


def test_ends_may_be_lists_and_views() -> None:
    every_other = np.array([1, 0, 3, 0, 6, 0])[::2]

    assert align_boundaries([2, 3, 6], every_other).tolist() == [-1, 1, 2]


def test_of_tokens_without_width_the_last_of_either_side_is_aligned() -> None:
    # The last of them is the one whose row predicts the text that follows.
    assert align_boundaries([0, 0, 2, 2, 3], [0, 2, 2, 2, 3]).tolist() == [-1, 0, -1, 3, 4]


@pytest.mark.parametrize("function", [map_min_edit_distance, map_byte_prefix])
def test_maps_of_nothing(function: Callable[..., Any]) -> None:
    some = ["ab"] if function is map_min_edit_distance else [b"ab"]
    marks = MARKS if function is map_min_edit_distance else {}

    for source, target in ([], some), (some, []), ([], []):
        images = function(source, target, **marks)
        assert images.dtype == np.int32
        assert images.tolist() == [-1] * len(source)


def test_nothing_is_aligned_with_nothing() -> None:
    assert align_dtw([], [], **MARKS) == []
    assert align_boundaries([], [1, 2]).tolist() == []
    assert align_boundaries([1, 2], []).tolist() == [-1, -1]


def test_ties_go_to_the_first_target_piece_in_the_order_given() -> None:
    assert map_min_edit_distance(["Ġxy"], ["▁xa", "▁xb"], **MARKS).tolist() == [0]
    assert map_min_edit_distance(["Ġxy"], ["▁xb", "▁xa", "▁xb"], **MARKS).tolist() == [0]
    assert map_min_edit_distance(["Ġxy"], ["▁xyzz", "▁y", "▁x"], **MARKS).tolist() == [1]


@pytest.mark.parametrize("name", ["llama_like", "openllama_like"])
def test_byte_prefixes_prefer_pieces_to_fallbacks_with_bytes_alone(name: str) -> None:
    target = piece_bytes(load_golden_tokenizer(name))
    pieces = load_golden_tokenizer(name).convert_ids_to_tokens(range(len(target)))

    images = map_byte_prefix([b"A", b" ", b"\n", b"\xff"], target)

    assert [pieces[image] for image in images.tolist()] == ["A", "▁", "<0x0A>", "<0xFF>"]


def test_byte_prefixes_take_equal_bytes_in_order_otherwise() -> None:
    assert map_byte_prefix([b"ab"], [b"b", b"a", b"a"]).tolist() == [1]


@pytest.mark.parametrize("name", sorted(SPECIAL_TOKENS))
def test_every_id_has_its_bytes_and_control_tokens_none(name: str) -> None:
    tokenizer = load_golden_tokenizer(name)

    spelled = piece_bytes(tokenizer)

    assert len(spelled) == len(tokenizer)
    assert all(type(data) is bytes for data in spelled)
    assert {i for i, data in enumerate(spelled) if not data} >= set(tokenizer.all_special_ids)


@pytest.mark.parametrize("name", sorted(SPECIAL_TOKENS))
def test_ends_are_cumulative_byte_counts(name: str) -> None:
    ids, ends, lossless = encode_with_ends(load_golden_tokenizer(name), "naïve 北京")
    no_ids, no_ends, empty_is_lossless = encode_with_ends(load_golden_tokenizer(name), "")

    assert lossless is True
    assert empty_is_lossless is True
    assert len(ids) == len(ends)
    assert ends[-1] == len("naïve 北京".encode())
    assert len(no_ids) == len(no_ends) == 0


@pytest.mark.parametrize("tail", ["renormalise", "bucket", "sampled"])
def test_places_of_weight_zero_are_unused_whatever_their_id(tail: Any) -> None:
    logits = torch.randn(2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.tensor([[0.5, 0.2, 0.0], [0.0, 0.0, 0.0]])

    padded_with_none = sparse_cross_entropy(
        logits, torch.tensor([[4, 1, NO_ID], [NO_ID] * 3]), weights, tail=tail
    )
    padded_with_an_id = sparse_cross_entropy(logits, torch.tensor([[4, 1, 4], [0] * 3]), weights, tail=tail)

    assert torch.equal(padded_with_none, padded_with_an_id)
    assert padded_with_none[1] == 0


def test_losses_take_leading_dimensions_and_small_ids() -> None:
    logits = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[[0, 5]] * 3] * 2, dtype=torch.int32)
    weights = torch.full((2, 3, 2), 0.4)

    loss = sparse_cross_entropy(logits, ids, weights, tail="bucket")

    flat = sparse_cross_entropy(logits.flatten(0, 1), ids.flatten(0, 1), weights.flatten(0, 1), tail="bucket")
    assert torch.equal(loss.flatten(), flat)
