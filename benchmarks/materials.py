"""Tokenizers and checkpoints the rows work on, made on the spot and cached in `.bench/`.

`target` and `llama` read sentencepiece BPE of two different texts (dummy prefix, byte fallback), `mpt`
byte-level BPE with a head larger than the tokenizer. The weights are random: speed does not depend on them.
"""

import hashlib
import json
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from benchmarks.sizes import Sizes
from benchmarks.texts import modules, write_corpus
from fusion.io.atomic import atomic_folder
from fusion.llms.loading import load_tokenizer

SOURCES = ("llama", "mpt")
NAMES = ("target", *SOURCES)
_SIZES = (
    "vocabulary_size",
    "byte_level_vocabulary_size",
    "tokenizer_characters",
    "num_documents",
    "max_document_characters",
    "max_tokens_per_window",
    "hidden_size",
    "num_layers",
)
"""The sizes that the materials depend on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Materials:
    """Where everything lies: checkpoint folders by name, and the corpus as JSONL; `cache` holds it all."""

    cache: Path
    checkpoints: dict[str, Path]
    corpus: Path


def make_materials(cache: Path, sizes: Sizes, *, say: Callable[[str], None]) -> Materials:
    """Make what the cache does not hold; another Python or other sizes make another folder."""
    facts = [[getattr(sizes, name) for name in _SIZES], platform.python_version(), hf.__version__]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    folder = cache / f"materials-{digest}"
    if not folder.is_dir():
        pieces = f"{sizes.vocabulary_size:,} and {sizes.byte_level_vocabulary_size:,} pieces"
        say(f"training tokenizers of {pieces} on the standard library's text, once, into {folder}")
        with atomic_folder(folder) as partial:
            _make(partial, sizes)
    checkpoints = {name: folder / name for name in NAMES}
    return Materials(cache=cache, checkpoints=checkpoints, corpus=folder / "corpus.jsonl")


def _make(folder: Path, sizes: Sizes) -> None:
    hf.utils.logging.disable_progress_bar()
    texts = modules("tokenizers", max_characters=sizes.tokenizer_characters)
    tokenizers = {
        "target": _sentencepiece(texts[0::2], sizes.vocabulary_size, folder / "scratch"),
        "llama": _sentencepiece(texts[1::2], sizes.vocabulary_size, folder / "scratch"),
        "mpt": _byte_level(texts, sizes.byte_level_vocabulary_size),
    }
    shutil.rmtree(folder / "scratch")
    for seed, (name, tokenizer) in enumerate(tokenizers.items()):
        torch.manual_seed(seed)
        config = _mpt_config(tokenizer, sizes) if name == "mpt" else _llama_config(tokenizer, sizes)
        hf.AutoModelForCausalLM.from_config(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    write_corpus(
        folder / "corpus.jsonl",
        num_documents=sizes.num_documents,
        max_characters=sizes.max_document_characters,
    )


def _sentencepiece(texts: list[str], vocabulary_size: int, scratch: Path) -> Any:
    scratch.mkdir(exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line for text in texts for line in text.splitlines()),
        model_prefix=str(scratch / "tokenizer"),
        vocab_size=vocabulary_size,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        num_threads=1,
        minloglevel=2,
    )
    return load_tokenizer(scratch)


def _byte_level(texts: list[str], vocabulary_size: int) -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def _llama_config(tokenizer: Any, sizes: Sizes) -> Any:
    return hf.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=sizes.hidden_size,
        intermediate_size=sizes.hidden_size * 8 // 3,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=4,
        max_position_embeddings=sizes.max_tokens_per_window + 2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def _mpt_config(tokenizer: Any, sizes: Sizes) -> Any:
    return hf.MptConfig(
        vocab_size=len(tokenizer) + 178,
        d_model=sizes.hidden_size,
        n_layers=sizes.num_layers,
        n_heads=4,
        max_seq_len=sizes.max_tokens_per_window + 2,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
