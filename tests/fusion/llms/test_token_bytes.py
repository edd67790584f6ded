"""Every byte of a text is accounted for, whatever the tokenizer."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fusion.errors import CorpusInvalid, ModelUnusable
from fusion.llms.loading import load_tokenizer
from fusion.llms.token_bytes import TextEncoder, encode_with_ends, piece_bytes
from tests.support.tiny_models import SPECIAL_TOKENS, load_golden_tokenizer

GOLDEN_NAMES = sorted(SPECIAL_TOKENS)
ENCODERS = {name: TextEncoder(load_golden_tokenizer(name)) for name in GOLDEN_NAMES}
NASTY = [
    "",
    " ",
    " lead",
    "  two spaces",
    "tab\tand\r\nline\n\n",
    "👩‍👩‍👧‍👦 family",
    "e\u0301 combining",
    "\x00 nul",
    "<s>hi</s><unk>",
    "<|endoftext|>",
    "<0x0A>",
    "日本語のテキスト",
    " \t\n ",
]
FRAGMENTS = st.lists(st.one_of(st.sampled_from(NASTY), st.text(max_size=8)), max_size=6).map("".join)


@pytest.mark.parametrize("name", GOLDEN_NAMES)
@given(text=FRAGMENTS.filter(lambda text: "▁" not in text))
@settings(max_examples=60, deadline=None)
def test_pieces_account_for_every_byte(name: str, text: str) -> None:
    encoder = ENCODERS[name]

    encoded = encoder.encode(text)

    assert encoded.lossless
    assert encoder.spell(encoded.ids.tolist()).removeprefix(b" ") == text.encode().removeprefix(b" ")
    ends = encoded.ends.tolist()
    assert ends == sorted(ends)
    assert (ends[-1] if ends else 0) == len(text.encode())


@pytest.mark.parametrize("name", GOLDEN_NAMES)
@pytest.mark.parametrize("text", NASTY)
def test_ids_are_those_of_the_tokenizer_reading_control_tokens_as_text(name: str, text: str) -> None:
    tokenizer = load_golden_tokenizer(name)

    ids, _, _ = encode_with_ends(tokenizer, text)

    expected = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert ids.tolist() == expected
    assert not set(expected) & set(tokenizer.all_special_ids)


def test_a_dummy_prefix_consumes_nothing() -> None:
    plain, spaced = ENCODERS["llama_like"].encode("lead"), ENCODERS["llama_like"].encode("\n")

    assert plain.ends.tolist() == [2, 4]
    assert spaced.ends.tolist() == [0, 1]


def test_byte_fallback_pieces_share_a_character_but_not_a_byte() -> None:
    encoded = ENCODERS["llama_like"].encode("🎉")

    assert encoded.ends.tolist()[-4:] == [1, 2, 3, 4]


def test_control_tokens_have_no_bytes_and_other_pieces_have_some() -> None:
    encoder = ENCODERS["mpt_like"]

    assert [token_id for token_id, data in enumerate(encoder.piece_bytes) if not data] == [0, 1]
    assert (encoder.start_id, encoder.eos_id, encoder.mark) == (0, 0, "Ġ")
    assert encoder.size == len(encoder.pieces) == len(encoder.piece_bytes) == 1600


def test_start_token_is_bos_where_there_is_one() -> None:
    encoder = ENCODERS["llama_like"]

    assert (encoder.start_id, encoder.eos_id, encoder.mark) == (1, 2, "▁")
    assert encoder.piece_bytes[13] == b"\n"
    assert encoder.pieces[13] == "<0x0A>"


def _tokenizer(backend: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")


def _byte_level(*, normalizer: object = None, added: str | None = None) -> PreTrainedTokenizerFast:
    alphabet = {
        character: index for index, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))
    }
    backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if normalizer is not None:
        backend.normalizer = normalizer
    if added is not None:
        backend.add_tokens([AddedToken(added, special=False)])
    return _tokenizer(backend)


def test_added_tokens_that_are_not_control_tokens_stand_for_their_text() -> None:
    tokenizer = _byte_level(added="<tool é>")

    ids, ends, lossless = encode_with_ends(tokenizer, "a<tool é>b")

    assert lossless
    assert ends.tolist() == [1, 10, 11]
    assert piece_bytes(tokenizer)[ids[1]] == "<tool é>".encode()


def test_a_normaliser_that_changes_the_text_is_lossy_only_where_it_does() -> None:
    encoder = TextEncoder(_byte_level(normalizer=normalizers.NFC()))

    assert encoder.encode("é").lossless
    assert not encoder.encode(unicodedata.normalize("NFD", "é")).lossless


def test_a_prefix_that_the_tokenizer_does_not_add_is_lossy() -> None:
    encoder = TextEncoder(_byte_level(normalizer=normalizers.Replace("x", " x")))

    assert not encoder.encode("x").lossless


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(CorpusInvalid, match="D83D") as caught:
        ENCODERS["mpt_like"].encode("broken \ud83d")

    assert caught.value.code == "corpus_not_utf8"


@pytest.mark.parametrize(
    "model",
    [models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"), models.BPE(vocab={"a": 0}, merges=[])],
)
def test_tokenizers_that_do_not_spell_bytes_are_refused(model: object) -> None:
    with pytest.raises(ModelUnusable) as caught:
        TextEncoder(_tokenizer(Tokenizer(model)))

    assert caught.value.code == "tokenizer_unsupported"
    assert caught.value.hint


def test_a_saved_tokenizer_reads_the_same(tmp_path: Path) -> None:
    load_golden_tokenizer("openllama_like").save_pretrained(tmp_path)

    encoder = TextEncoder(load_tokenizer(tmp_path))

    for text in NASTY:
        assert encoder.encode(text).ids.tolist() == ENCODERS["openllama_like"].encode(text).ids.tolist()
