"""Checkpoints that try to run their author's code, or to have other files read, get neither."""

import io
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fusion.corpus.documents import iter_documents
from fusion.errors import CorpusInvalid, ModelUnusable
from fusion.llms.checkpoints import inspect_checkpoint
from fusion.llms.loading import load_model, load_tokenizer
from fusion.spec import CorpusFile, CorpusSpec
from tests.support.tiny_models import save_tiny_checkpoint

Edit = Callable[[Path], object]
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = "model-00001-of-00001.safetensors"
MAP = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._path),)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good checkpoint, and a stranger's beside it."""
    root = tmp_path_factory.mktemp("stored")
    strangers = save_tiny_checkpoint(root / "strangers", seed=1)
    (strangers / WEIGHTS).rename(strangers / SHARD)
    return save_tiny_checkpoint(root / "good")


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def folder(stored: Path, tmp_path: Path, canary: Path) -> Path:
    """A copy of the good one, with code that leaves a canary when anything imports it."""
    copy = Path(shutil.copytree(stored, tmp_path / "good"))
    shutil.copytree(stored.parent / "strangers", tmp_path / "strangers")
    for name in ("evil.py", "custom_generate/generate.py"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text(
            f"open({str(canary)!r}, 'w')\n"
            "from transformers import AutoTokenizer as Words\n"
            "from transformers import LlamaConfig as Config, LlamaForCausalLM as Model\n"
        )
    return copy


def config(**changes: object) -> Edit:
    return in_json("config.json", **changes)


def in_json(name: str, **changes: object) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / name
        data = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(data | changes))

    return edit


def text(name: str, content: str) -> Edit:
    return lambda folder: (folder / name).write_text(content)


def shards_elsewhere(name: str) -> Edit:
    """An index that names a stranger's weights; a decoy of the same name lies where one would look."""

    def edit(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / Path(name).name)
        (folder / INDEX).write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))

    return edit


def absolute_shards(folder: Path) -> None:
    shards_elsewhere(str(folder.parent / "strangers" / SHARD))(folder)


def adapter(folder: Path) -> None:
    base = str(folder.parent / "strangers")
    in_json("adapter_config.json", peft_type="LORA", base_model_name_or_path=base)(folder)


REFUSED: dict[str, tuple[Edit, str]] = {
    "map of an unknown architecture": (config(model_type="mine", auto_map=MAP), "remote_code_required"),
    "map of another repository": (
        config(model_type="mine", auto_map={"AutoConfig": "org/evil--evil.Config"}),
        "remote_code_required",
    ),
    "nested map": (config(text_config={"auto_map": MAP}), "remote_code_required"),
    "map in a list": (config(experts=[[{"auto_map": MAP}]]), "remote_code_required"),
    "flag": (config(trust_remote_code=True), "remote_code_required"),
    "nested flag": (config(vision_config={"trust_remote_code": True}), "remote_code_required"),
    "attention": (config(attn_implementation="org/kernel:forward"), "remote_code_required"),
    "attention, private": (config(_attn_implementation="org/kernel"), "remote_code_required"),
    "attention, internal": (config(_attn_implementation_internal="org/kernel"), "remote_code_required"),
    "experts, internal": (config(_experts_implementation_internal="org/kernel"), "remote_code_required"),
    "attention by part": (config(attn_implementation={"": "org/kernel"}), "remote_code_required"),
    "attention in a list": (config(attn_implementation=["org/kernel"]), "remote_code_required"),
    "generation": (in_json("generation_config.json", custom_generate="org/evil"), "remote_code_required"),
    "flag of the tokenizer": (
        in_json("tokenizer_config.json", trust_remote_code=True),
        "remote_code_required",
    ),
    "adapter": (adapter, "model_is_adapter"),
    "shards above": (shards_elsewhere(f"../strangers/{SHARD}"), "model_config_broken"),
    "shards at a path": (absolute_shards, "model_config_broken"),
    "weights by another name": (
        config(transformers_weights=f"../strangers/{SHARD}"),
        "model_config_broken",
    ),
    "more layers than there are": (config(num_hidden_layers=10**7), "weights_missing"),
    "deep": (text("config.json", '{"a":' * 100_000), "model_config_broken"),
    "type": (config(model_type=["llama"]), "not_a_causal_lm"),
    "architectures": (config(architectures=5), "not_a_causal_lm"),
    "architecture elsewhere": (config(architectures=["evil.ModelForCausalLM"]), "not_a_causal_lm"),
    "architecture in HTML": (config(architectures=["<b>ForCausalLM"]), "not_a_causal_lm"),
    "vocabulary": (config(vocab_size={}), "model_config_broken"),
    "tokenizer settings": (text("tokenizer_config.json", "[]"), "model_config_broken"),
}
HARMLESS: dict[str, Edit] = {
    "map of an architecture that is known": config(auto_map=MAP),
    "tokenizer map": in_json(
        "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Words", None]}, tokenizer_class="Words"
    ),
    "kernels": config(use_kernels=True, kernel_config={"RMSNorm": "org/kernel:RMSNorm"}),
    "precision": config(dtype="load", torch_dtype="load"),
    "another's name": config(_name_or_path="../strangers", name_or_path="../strangers"),
    "template": in_json(
        "tokenizer_config.json", chat_template="{{ [].__class__.__base__.__subclasses__() }}"
    ),
}
QUANTISED = ("gptq", "awq", "bitsandbytes", "hqq", "torchao")


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_before_anything_is_loaded_and_runs_nothing_anyway(
    folder: Path, canary: Path, name: str
) -> None:
    edit, code = REFUSED[name]
    edit(folder)

    with pytest.raises(ModelUnusable) as caught:
        inspect_checkpoint(folder, pointer="/target/model")

    assert (caught.value.code, caught.value.pointer) == (code, "/target/model")
    assert caught.value.hint
    if name != "more layers than there are":
        load_everything(folder)
    assert not canary.exists()


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_ignored_changes_nothing(folder: Path, canary: Path, name: str) -> None:
    HARMLESS[name](folder)

    inspect_checkpoint(folder, pointer="/target/model")
    head = load_model(folder, dtype="float32", device=torch.device("cpu")).state_dict()["lm_head.weight"]
    load_tokenizer(folder)

    assert torch.equal(head, load_file(folder / WEIGHTS)["lm_head.weight"])
    assert not canary.exists()


@pytest.mark.parametrize("method", QUANTISED)
def test_a_precision_that_needs_other_packages_is_the_checkpoints_fault(folder: Path, method: str) -> None:
    config(quantization_config={"quant_method": method, "bits": 4, "load_in_4bit": True})(folder)

    with pytest.raises(ModelUnusable) as caught:
        load_model(folder, dtype="float32", device=torch.device("cpu"))

    assert caught.value.code == "model_not_loadable"


@pytest.mark.parametrize("slot", ["pytorch_model.bin", WEIGHTS, INDEX, "config.json", "tokenizer.json"])
def test_a_pickle_in_place_of_a_file_is_not_opened(folder: Path, canary: Path, slot: str) -> None:
    if slot in (INDEX, "pytorch_model.bin"):
        (folder / WEIGHTS).unlink()
    torch.save(Bomb(canary), folder / slot)

    look = load_tokenizer if slot == "tokenizer.json" else partial(inspect_checkpoint, pointer="/x")
    with pytest.raises(ModelUnusable):
        look(folder)

    load_everything(folder)
    assert not canary.exists()
    torch.load(io.BytesIO((folder / slot).read_bytes()), weights_only=False)
    assert canary.exists(), "the pickle is a dud, and this test proves nothing"


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.parquet", "a.pkl", "a.jsonl.gz", "a"])
def test_a_pickle_in_place_of_a_corpus_is_not_opened(tmp_path: Path, canary: Path, name: str) -> None:
    torch.save(Bomb(canary), tmp_path / name)
    corpus = CorpusSpec(files=[CorpusFile(path=str(tmp_path / name))])

    with pytest.raises(CorpusInvalid) as caught:
        list(iter_documents(corpus, files={}))

    assert caught.value.hint
    assert not canary.exists()


def load_everything(folder: Path) -> None:
    """As if nobody had looked at it before: whether it loads or not, it runs nothing."""
    for load in (
        lambda: load_model(folder, dtype="float32", device=torch.device("cpu")),
        lambda: load_tokenizer(folder),
    ):
        try:
            load()
        except (ModelUnusable, TypeError) as error:
            print(error)
