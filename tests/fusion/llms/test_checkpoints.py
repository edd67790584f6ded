"""Unusable checkpoints are refused before a weight is read, each with its own code."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fusion.errors import InfrastructureError, InternalError, ModelUnusable
from fusion.io.stage_inputs import StageInputs
from fusion.llms.checkpoints import checkpoint_digest, inspect_checkpoint, resolve_checkpoint
from fusion.llms.loading import load_model, load_tokenizer
from fusion.spec import ModelRef
from tests.support.tiny_models import save_tiny_checkpoint

POINTER = "/sources/0/model"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_tiny_checkpoint(tmp_path / "model", family="mpt", tokenizer="mpt_like")


def edit_json(name: str, **changes: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return apply


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def garble_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)


def index_without_shards(folder: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()


BROKEN = [
    (lambda folder: folder.rename(folder.with_name("elsewhere")), "model_not_found"),
    (remove("config.json"), "model_not_found"),
    (lambda folder: (folder / "config.json").write_text("{"), "model_config_broken"),
    (lambda folder: (folder / "config.json").write_text("[]"), "model_config_broken"),
    (edit_json("config.json", vocab_size=None), "model_config_broken"),
    (edit_json("config.json", architectures=["MptForSequenceClassification"]), "not_a_causal_lm"),
    (edit_json("config.json", architectures=["BertForMaskedLM"], model_type="bert"), "not_a_causal_lm"),
    (edit_json("config.json", model_type="my_own"), "not_a_causal_lm"),
    (edit_json("config.json", nested={"auto_map": {"AutoModel": "m.Mine"}}), "remote_code_required"),
    (edit_json("config.json", trust_remote_code=True), "remote_code_required"),
    (edit_json("config.json", attn_config={"deep": [{"x_internal": "org/kernel"}]}), "remote_code_required"),
    (edit_json("config.json", attn_implementation="org/kernel"), "remote_code_required"),
    (pickle_only, "pickled_weights_only"),
    (remove("model.safetensors"), "weights_missing"),
    (index_without_shards, "weights_missing"),
    (truncate, "weights_damaged"),
    (garble_header, "weights_damaged"),
    (remove("tokenizer.json"), "tokenizer_missing"),
]


@pytest.mark.parametrize(
    ("damage", "code"), BROKEN, ids=[f"{i}-{code}" for i, (_, code) in enumerate(BROKEN)]
)
def test_unusable_checkpoints(checkpoint: Path, damage: Callable[[Path], object], code: str) -> None:
    damage(checkpoint)

    with pytest.raises(ModelUnusable) as caught:
        inspect_checkpoint(checkpoint, pointer=POINTER)

    assert caught.value.code == code
    assert caught.value.pointer == POINTER
    assert caught.value.hint


def test_facts_of_a_checkpoint(checkpoint: Path) -> None:
    (checkpoint / "README.md").write_text("---\ntags: [x]\nlicense: apache-2.0\n---\n# Card\n")

    info = inspect_checkpoint(checkpoint, pointer=POINTER)

    assert (info.model_type, info.architecture) == ("mpt", "MptForCausalLM")
    assert (info.vocabulary_size, info.max_positions) == (1632, 512)
    assert info.num_parameters * 4 < info.num_weight_bytes < info.num_parameters * 4 + 10_000
    assert info.license == "apache-2.0"


def test_code_for_an_architecture_transformers_lacks(checkpoint: Path) -> None:
    edit_json("config.json", model_type="my_own", auto_map={"AutoModelForCausalLM": "modeling.Mine"})(
        checkpoint
    )

    with pytest.raises(ModelUnusable) as caught:
        inspect_checkpoint(checkpoint, pointer=POINTER)

    assert caught.value.code == "remote_code_required"


def test_the_map_of_a_native_architecture_is_never_followed(checkpoint: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (checkpoint / "modeling.py").write_text(f"open({str(canary)!r}, 'w')\nclass Mine: pass\n")
    edit_json(
        "config.json", auto_map={"AutoConfig": "modeling.Mine", "AutoModelForCausalLM": "modeling.Mine"}
    )(checkpoint)
    edit_json("tokenizer_config.json", auto_map={"AutoTokenizer": ["modeling.Mine", None]})(checkpoint)

    assert inspect_checkpoint(checkpoint, pointer=POINTER).architecture == "MptForCausalLM"
    model = load_model(checkpoint, dtype="float32", device=torch.device("cpu"))
    load_tokenizer(checkpoint)

    assert type(model).__module__.startswith("transformers.")
    assert not canary.exists()


def test_flags_that_are_switched_off_need_no_remote_code(checkpoint: Path) -> None:
    edit_json("config.json", auto_map=None, trust_remote_code=False)(checkpoint)

    assert inspect_checkpoint(checkpoint, pointer=POINTER).model_type == "mpt"


def test_digest_follows_weights_and_tokenizer_but_not_the_card(checkpoint: Path, tmp_path: Path) -> None:
    before = checkpoint_digest(checkpoint)
    (checkpoint / "README.md").write_text("card")
    other = save_tiny_checkpoint(tmp_path / "other", family="mpt", tokenizer="mpt_like", seed=1)

    assert checkpoint_digest(checkpoint) == before
    assert checkpoint_digest(other) != before


def test_references_resolve_to_folders(tmp_path: Path) -> None:
    inputs = StageInputs(models={"model-1": tmp_path})

    assert resolve_checkpoint(ModelRef(path="/a/b"), inputs) == Path("/a/b")
    assert resolve_checkpoint(ModelRef(model_id="model-1"), inputs) == tmp_path
    with pytest.raises(InternalError):
        resolve_checkpoint(ModelRef(model_id="model-2"), inputs)


def test_a_hub_that_cannot_be_reached_is_worth_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(InfrastructureError) as caught:
        resolve_checkpoint(ModelRef(hub="nobody/nothing", revision="0" * 40), StageInputs())

    assert caught.value.code == "hub_unreachable"
    assert "HF_ENDPOINT" in (caught.value.hint or "")
    assert caught.value.retryable
