"""Tokenizers and models load as their files say."""

import errno
import io
import json
import pydoc_data.topics
from pathlib import Path

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from fusion.errors import ModelUnusable
from fusion.llms.loading import compute_dtype, load_model, load_tokenizer
from fusion.llms.token_bytes import TextEncoder
from tests.support.tiny_models import CONFIG_OF_FAMILY, load_golden_tokenizer, save_tiny_checkpoint

CPU = torch.device("cpu")
TEXTS = [
    "lead",
    " lead",
    "   three",
    "def f(x):\n    return x  # 42\n",
    "\n",
    "tabs\t\tand  spaces ",
    "naïve 日本 🎉",
    "<s>hi</s><0x0A>",
]


def train_sentencepiece(folder: Path, **options: object) -> Path:
    """A small real `tokenizer.model`."""
    model = io.BytesIO()
    lines = [
        line for topic in list(pydoc_data.topics.topics.values())[:20] for line in topic.splitlines() if line
    ]
    settings = {
        "vocab_size": 600,
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, **(settings | options)
    )
    path = folder / "tokenizer.model"
    path.write_bytes(model.getvalue())
    return path


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
def test_a_bare_sentencepiece_model_is_read_as_sentencepiece_reads_it(
    tmp_path: Path, model_type: str
) -> None:
    reference = sentencepiece.SentencePieceProcessor(
        model_file=str(train_sentencepiece(tmp_path, model_type=model_type, vocab_size=500))
    )

    encoder = TextEncoder(load_tokenizer(tmp_path))

    for text in TEXTS:
        encoded = encoder.encode(text)
        assert encoded.ids.tolist() == reference.encode(text), text
        assert encoded.lossless
    assert (encoder.start_id, encoder.eos_id) == (reference.bos_id(), reference.eos_id())


def test_a_sentencepiece_model_that_collapses_spaces_is_lossy(tmp_path: Path) -> None:
    path = train_sentencepiece(tmp_path, remove_extra_whitespaces=True)
    reference = sentencepiece.SentencePieceProcessor(model_file=str(path))

    encoder = TextEncoder(load_tokenizer(tmp_path))

    assert encoder.encode("one  two").ids.tolist() == reference.encode("one  two")
    assert not encoder.encode("one  two").lossless
    assert encoder.encode("one two").lossless


def test_the_class_named_in_the_config_does_not_change_the_tokenizer(tmp_path: Path) -> None:
    train_sentencepiece(tmp_path)
    load_tokenizer(tmp_path).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(config | {"tokenizer_class": "LlamaTokenizer"})
    )
    reference = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))

    loaded = TextEncoder(load_tokenizer(tmp_path))

    assert loaded.encode("  lead").ids.tolist() == reference.encode("  lead")


@pytest.mark.parametrize("name", ["llama_like", "mpt_like"])
def test_a_saved_copy_reads_the_same_through_auto_tokenizer(tmp_path: Path, name: str) -> None:
    load_golden_tokenizer(name).save_pretrained(tmp_path / "first")
    tokenizer = load_tokenizer(tmp_path / "first")

    tokenizer.save_pretrained(tmp_path / "second")

    again = AutoTokenizer.from_pretrained(tmp_path / "second")
    for text in TEXTS:
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_vocabulary_and_merges_of_the_old_gpt2_format(tmp_path: Path) -> None:
    golden = load_golden_tokenizer("mpt_like")
    golden.backend_tokenizer.model.save(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GPT2Tokenizer", "eos_token": {"content": "<|endoftext|>"}})
    )

    loaded = TextEncoder(load_tokenizer(tmp_path))

    assert loaded.eos_id == 0
    for text in TEXTS:
        assert loaded.encode(text).ids.tolist() == TextEncoder(golden).encode(text).ids.tolist()


def test_the_end_token_may_be_named_by_the_model_config_alone(tmp_path: Path) -> None:
    load_golden_tokenizer("mpt_like").backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": [0, 1]}))

    assert load_tokenizer(tmp_path).eos_token == "<|endoftext|>"


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("tokenizer.json", b"{", "tokenizer_unsupported"),
        ("tokenizer.model", b"\xff\xff", "tokenizer_unsupported"),
        ("notes.txt", b"", "tokenizer_missing"),
    ],
)
def test_unreadable_tokenizers_are_named(tmp_path: Path, name: str, content: bytes, code: str) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ModelUnusable) as caught:
        load_tokenizer(tmp_path)

    assert caught.value.code == code


@pytest.mark.parametrize("family", sorted(CONFIG_OF_FAMILY))
def test_every_family_loads_in_evaluation_mode(tmp_path: Path, family: str) -> None:
    save_tiny_checkpoint(tmp_path, family=family, tokenizer="mpt_like")

    model = load_model(tmp_path, dtype="auto", device=CPU)

    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_dtype_is_the_one_asked_for(tmp_path: Path) -> None:
    save_tiny_checkpoint(tmp_path)

    assert load_model(tmp_path, dtype="bfloat16", device=CPU).dtype == torch.bfloat16
    assert compute_dtype("auto", torch.device("cuda")) == torch.bfloat16
    assert compute_dtype("auto", CPU) == torch.float32


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_missing_weights_are_refused_rather_than_random(tmp_path: Path) -> None:
    save_tiny_checkpoint(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(ModelUnusable, match=r"lm_head\.weight") as caught:
        load_model(tmp_path, dtype="auto", device=CPU)

    assert caught.value.code == "weights_missing"


def test_weights_of_other_shapes_are_refused(tmp_path: Path) -> None:
    save_tiny_checkpoint(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": 77}))

    with pytest.raises(ModelUnusable) as caught:
        load_model(tmp_path, dtype="auto", device=CPU)

    assert caught.value.code == "model_not_loadable"


@pytest.mark.parametrize(
    "fault",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        OSError(errno.EIO, "Input/output error"),
    ],
)
def test_faults_of_the_machine_are_not_blamed_on_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)

    with pytest.raises(type(fault)) as caught:
        load_model(tmp_path, dtype="auto", device=CPU)

    assert caught.value is fault


def test_a_folder_without_weights_is_the_checkpoints_fault(tmp_path: Path) -> None:
    (save_tiny_checkpoint(tmp_path) / "model.safetensors").unlink()

    with pytest.raises(ModelUnusable) as caught:
        load_model(tmp_path, dtype="auto", device=CPU)

    assert caught.value.code == "model_not_loadable"
