import json
from functools import cache

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from fusion.alignment.row_transform import Context
from fusion.alignment.vocabulary import VocabularyMap, build_vocabulary_map, identity_map
from fusion.llms.token_bytes import TextEncoder
from fusion.spec import VocabularyMap as MapName
from tests.fusion.alignment.captures_by_hand import encoder_of
from tests.support.tiny_models import load_golden_tokenizer

METHODS: list[MapName] = ["byte_prefix", "exact", "min_edit_distance"]


@cache
def encoder(name: str) -> TextEncoder:
    return encoder_of(name)


def prepending_encoder() -> TextEncoder:
    """`llama_like` with the normaliser of older checkpoints, which marks every text."""
    tokenizer = load_golden_tokenizer("llama_like")
    structure = json.loads(tokenizer.backend_tokenizer.to_str())
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    prepend = {"type": "Prepend", "prepend": "▁"}
    structure |= {
        "normalizer": {"type": "Sequence", "normalizers": [prepend, replace]},
        "pre_tokenizer": None,
    }
    backend = Tokenizer.from_str(json.dumps(structure))
    return TextEncoder(PreTrainedTokenizerFast(tokenizer_object=backend))


@cache
def mapped(source: str, target: str, method: MapName) -> VocabularyMap:
    return build_vocabulary_map(encoder(source), encoder(target), method=method)


def image(
    source: str,
    target: str,
    piece: str,
    *,
    method: MapName = "byte_prefix",
    context: Context = Context.INSIDE,
) -> str:
    source_id = encoder(source).pieces.index(piece)
    target_id = int(mapped(source, target, method).images_3V[context, source_id])
    return encoder(target).pieces[target_id] if target_id >= 0 else ""


@pytest.mark.parametrize("method", METHODS)
def test_end_of_text_maps_to_end_of_text_and_other_controls_nowhere(method: MapName) -> None:
    assert image("mpt_like", "llama_like", "<|endoftext|>", method=method) == "</s>"
    assert image("mpt_like", "llama_like", "<|padding|>", method=method) == ""
    assert image("openllama_like", "llama_like", "<s>", method=method) == ""
    assert image("openllama_like", "llama_like", "<unk>", method=method) == ""


def test_bytes_decide_and_not_spelling() -> None:
    assert image("mpt_like", "llama_like", "Ċ") == "<0x0A>"
    assert image("llama_like", "mpt_like", "<0x0A>") == "Ċ"
    assert image("mpt_like", "llama_like", "Ġthe") == "▁the"


def test_pieces_win_over_byte_fallbacks() -> None:
    assert image("mpt_like", "llama_like", "A") == "A"
    assert image("mpt_like", "llama_like", "Ġ") == "▁"
    assert image("llama_like", "openllama_like", "<0x41>") == "A"


def test_nothing_maps_to_a_fallback_that_has_a_piece() -> None:
    target = encoder("llama_like")
    spelled = [data for piece, data in zip(target.pieces, target.piece_bytes, strict=True) if len(piece) == 1]
    reached = set(mapped("mpt_like", "llama_like", "byte_prefix").images_3V.ravel().tolist())

    poison = [
        token_id
        for token_id in reached
        if token_id >= 0
        and target.pieces[token_id].startswith("<0x")
        and target.piece_bytes[token_id] in spelled
    ]

    assert poison == []


def test_at_the_start_of_a_text_the_dummy_prefix_is_not_in_the_text() -> None:
    assert image("mpt_like", "llama_like", "def", context=Context.START) == "▁def"
    assert image("mpt_like", "llama_like", "def") == "def"
    assert image("llama_like", "mpt_like", "▁def", context=Context.START) == "def"
    assert image("openllama_like", "llama_like", "▁def", context=Context.START) == "▁def"


def test_at_the_start_of_a_text_what_no_marked_piece_covers_is_left_to_the_lone_mark() -> None:
    assert image("mpt_like", "llama_like", "Ċ", context=Context.START) == "▁"


def test_before_a_space_of_the_text_no_dummy_prefix_is_expected() -> None:
    spaced = Context.SPACED_START

    assert image("llama_like", "mpt_like", "▁the", context=spaced) == "Ġthe"
    assert image("mpt_like", "llama_like", "Ġthe", context=spaced) == "▁the"
    assert image("openllama_like", "llama_like", "▁the", context=spaced) == "▁the"


def test_what_begins_without_a_space_is_met_as_at_any_start() -> None:
    assert image("mpt_like", "llama_like", "def", context=Context.SPACED_START) == "▁def"


def test_a_tokenizer_that_always_adds_a_prefix_is_believed() -> None:
    always, target = prepending_encoder(), encoder("mpt_like")
    assert always.spell(always.encode(" the").ids.tolist()) == b"  the"

    images_3V = build_vocabulary_map(always, target, method="byte_prefix").images_3V

    the = always.pieces.index("▁the")
    assert [target.pieces[image] for image in images_3V[:, the].tolist()] == ["Ġthe", "th", "th"]


@pytest.mark.parametrize("method", METHODS)
def test_ids_beyond_the_targets_head_are_no_images(method: MapName) -> None:
    num_ids = encoder("llama_like").pieces.index("▁the")

    images_3V = build_vocabulary_map(
        encoder("mpt_like"), encoder("llama_like"), method=method, num_ids=num_ids
    ).images_3V

    assert mapped("mpt_like", "llama_like", method).images_3V.max() >= num_ids
    assert images_3V.max() < num_ids
    assert identity_map(5, num_ids=3).images_3V.tolist() == [[0, 1, 2, -1, -1]] * 3


def test_a_map_is_the_same_everywhere_where_nobody_adds_a_prefix() -> None:
    images_3V = mapped("mpt_like", "mpt_like", "byte_prefix").images_3V

    assert images_3V[1:].tolist() == images_3V[:2].tolist()


def test_only_whitespace_that_shrinks_collapses() -> None:
    source, target = encoder("llama_like"), encoder("mpt_like")
    vocabulary = mapped("llama_like", "mpt_like", "byte_prefix")

    for token_id in np.flatnonzero(vocabulary.collapses).tolist():
        data = source.piece_bytes[token_id]
        assert data.isspace()
        assert len(target.piece_bytes[vocabulary.images_3V[0, token_id]]) < len(data)
    assert not mapped("llama_like", "mpt_like", "min_edit_distance").collapses.any()


def test_the_identity_changes_nothing() -> None:
    vocabulary = identity_map(5)

    assert vocabulary.size == 5
    assert vocabulary.images_3V.tolist() == [[0, 1, 2, 3, 4]] * 3
