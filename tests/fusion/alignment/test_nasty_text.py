"""Nasty text through real tokenizers of every kind: bytes, boundaries and masses are accounted for."""

import unicodedata
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fusion.alignment.listeners import build_aligner
from fusion.alignment.speakers import Silence, align_windows, listen
from fusion.alignment.target_text import read_target_text
from fusion.alignment.token_alignment import align_boundaries
from fusion.errors import CorpusInvalid
from fusion.llms.token_bytes import TextEncoder
from tests.fusion.alignment.captures_by_hand import encoder_of, random_capture, spec_of, windows_of
from tests.fusion.blending.rows_by_hand import entries_of

FRAGMENTS = [
    *("👩‍👩‍👧‍👦", "🏳️‍🌈", "🇨🇭", "👍🏽"),
    *("e\u0301", "é", "ﬁ", "a\u0323\u0307", "한글", "\u1112\u1161\u11ab"),
    *("\r\n", "\n\n", "\r", "\x00", "\u2028", "\ufeff", "\x7f"),
    *(" ", "  ", "    ", "\t", "\t\t ", " \n ", "\u00a0", "\u3000"),
    *("1234567890", "3.14", "٣٤", "０１"),
    *("<s>", "</s>", "<unk>", "<|endoftext|>", "<|padding|>", "<0x41>", "<0xFF>", "▁", "Ġ", "Ċ"),
    *("Привет", "שלום", "مرحبا", "日本語", "naïve café", "def f(x):\n    return x\n"),
]
nasty = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6)), max_size=8).map("".join)
SURROGATES = st.integers(0xD800, 0xDFFF).map(chr)


def _byte_level_of_qwen_kind() -> PreTrainedTokenizerFast:
    """Byte-level with NFC, as Qwen's."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")


def _sentencepiece_of_older_kind(*, compose: bool) -> PreTrainedTokenizerFast:
    """Byte fallback and a mark before every text; with `compose`, NFKC, as the default of sentencepiece."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "e", "é", "▁a"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    backend = Tokenizer(
        models.BPE(vocab=vocabulary, merges=[("▁", "a")], unk_token="<unk>", byte_fallback=True)
    )
    steps: list[Any] = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    backend.normalizer = normalizers.Sequence([normalizers.NFKC()] * compose + steps)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@cache
def encoder(name: str) -> TextEncoder:
    made = {
        "qwen_kind": _byte_level_of_qwen_kind,
        "prepending": lambda: _sentencepiece_of_older_kind(compose=False),
        "composing": lambda: _sentencepiece_of_older_kind(compose=True),
    }
    return TextEncoder(made[name]()) if name in made else encoder_of(name)


NAMES = ["llama_like", "openllama_like", "mpt_like", "qwen_kind", "prepending", "composing"]
PAIRS = [
    ("mpt_like", "llama_like"),
    ("llama_like", "mpt_like"),
    ("openllama_like", "llama_like"),
    ("qwen_kind", "prepending"),
    ("prepending", "qwen_kind"),
]


@pytest.mark.parametrize("name", NAMES)
@given(text=nasty)
@settings(max_examples=60)
def test_a_text_is_spelled_byte_by_byte_or_reported_lossy(name: str, text: str) -> None:
    encoded = encoder(name).encode(text)

    raw = text.encode()
    spelled = encoder(name).spell(encoded.ids.tolist())
    assert encoded.lossless == (spelled == raw or (spelled == b" " + raw and encoder(name).mark == "▁"))
    if encoded.lossless:
        prefix = len(spelled) - len(raw)
        lengths = [len(encoder(name).piece_bytes[token_id]) for token_id in encoded.ids.tolist()]
        assert encoded.ends.tolist() == [
            max(0, end - prefix) for end in np.cumsum(lengths, dtype=int).tolist()
        ]


@pytest.mark.parametrize("name", ["qwen_kind", "composing"])
def test_normalisers_make_a_document_lossy_only_where_they_change_it(name: str) -> None:
    for text in ("e\u0301", "a\u0323\u0307 x", "\u1112\u1161\u11ab"):
        assert not encoder(name).encode(text).lossless
        assert encoder(name).encode(unicodedata.normalize("NFC", text)).lossless


@pytest.mark.parametrize("name", NAMES)
@given(before=nasty, surrogate=SURROGATES, after=nasty)
@settings(max_examples=15)
def test_half_a_surrogate_pair_is_refused_anywhere(
    name: str, before: str, surrogate: str, after: str
) -> None:
    with pytest.raises(CorpusInvalid, match=f"U\\+{ord(surrogate):04X} at character {len(before)}") as caught:
        encoder(name).encode(before + surrogate + after)

    assert caught.value.hint


@pytest.mark.parametrize(("source", "target"), PAIRS)
@given(text=nasty)
@settings(max_examples=40)
def test_boundaries_are_the_common_ends_from_either_side(source: str, target: str, text: str) -> None:
    one, other = encoder(target).encode(text), encoder(source).encode(text)
    if not (one.lossless and other.lossless):
        return

    forth, back = align_boundaries(one.ends, other.ends), align_boundaries(other.ends, one.ends)

    common = set(one.ends.tolist()) & set(other.ends.tolist())
    assert set(one.ends[forth >= 0].tolist()) == set(other.ends[back >= 0].tolist()) == common
    assert {(i, j) for i, j in enumerate(forth.tolist()) if j >= 0} == {
        (i, j) for j, i in enumerate(back.tolist()) if i >= 0
    }


@pytest.mark.parametrize(("source", "target"), PAIRS)
@given(text=nasty, top_k=st.integers(1, 12), seed=st.integers(0, 9))
@settings(max_examples=15)
def test_no_mass_is_lost_or_made_on_the_way_to_the_target(
    source: str, target: str, text: str, top_k: int, seed: int
) -> None:
    one, other = encoder(target), encoder(source)
    if not (one.encode(text).lossless and other.encode(text).lossless):
        return
    windows = windows_of([text])
    capture = random_capture(windows, other, seed=seed, top_k=top_k)
    spec = spec_of(sources=("source",), strategy={"target_as_source": False})
    aligner = build_aligner(spec, {"target": one, "source": other})
    (listener,) = aligner.listeners
    assert one.start_id is not None
    read = read_target_text(windows, encoder=one, start_id=one.start_id, capture=None)

    speech = listen(listener, read, capture, 0, strategy=spec.strategy, target_size=aligner.target_size)

    positions = align_windows(listener, read, capture, 0, strict=False)
    for row in np.flatnonzero(speech.silence == Silence.NONE).tolist():
        weights = np.exp(capture.top_logprobs[positions[row]].astype(float))
        total = weights.sum() + np.exp(float(capture.tail_logprobs[positions[row]]))
        kept = dict(entries_of(speech.rows, row))
        assert sum(kept.values()) + float(speech.rows.tails[row]) == pytest.approx(1.0, abs=1e-5)
        images = listener.vocabulary.images_3V[(2 if text.startswith(" ") else 1) if row == 0 else 0]
        expected: dict[int, float] = {}
        for token_id, weight in zip(capture.top_ids[positions[row]].tolist(), weights, strict=True):
            if images[token_id] >= 0:
                expected[int(images[token_id])] = expected.get(int(images[token_id]), 0.0) + weight / total
        assert kept == pytest.approx(expected, abs=1e-5)
