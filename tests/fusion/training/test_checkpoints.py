"""The model in a checkpoint: a folder of its own that transformers loads, whatever the family."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from fusion.training import checkpoints
from tests.fusion.training.runs import Interrupted, RecordingProgress, TrainingCase
from tests.support.tiny_models import CONFIG_OF_FAMILY


def logits(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder)("the model of this step", return_tensors="pt").input_ids
    with torch.no_grad():
        return model(ids).logits


@pytest.mark.parametrize("family", CONFIG_OF_FAMILY)
def test_it_is_the_model_that_training_ended_with(tmp_path: Path, family: str) -> None:
    case = TrainingCase(tmp_path, family=family, max_steps=1, checkpoint_every_steps=1)

    case.run("trained")

    in_checkpoint = tmp_path / "trained/checkpoints/step-00000001/model"
    published = load_file(tmp_path / "trained/model/model.safetensors")
    stored = load_file(in_checkpoint / "model.safetensors")
    assert stored.keys() == published.keys()
    assert all(torch.equal(stored[name], published[name]) for name in stored)
    assert torch.equal(logits(in_checkpoint), logits(tmp_path / "trained/model"))
    assert json.loads((in_checkpoint / "config.json").read_text())["dtype"] == "float32"


def test_weights_in_several_files_are_loaded_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = TrainingCase(tmp_path)
    case.run("whole")
    monkeypatch.setattr(checkpoints, "_MAX_FILE_BYTES", 100_000)

    with pytest.raises(Interrupted):
        case.run("broken", progress=RecordingProgress(stop_after_step=5))
    model = tmp_path / "broken/checkpoints/step-00000004/model"
    assert len(list(model.glob("*.safetensors"))) > 1
    assert logits(model).isfinite().all()
    case.run("broken")

    assert case.weights("broken") == case.weights("whole")


def test_a_checkpoint_with_the_weights_beside_the_state_is_resumed(tmp_path: Path) -> None:
    """As it was before the model had a folder."""
    case = TrainingCase(tmp_path)
    case.run("whole")
    with pytest.raises(Interrupted):
        case.run("broken", progress=RecordingProgress(stop_after_step=5))
    for path in (tmp_path / "broken/checkpoints").iterdir():
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "model/model.safetensors").rename(path / "model-00000.safetensors")
        shutil.rmtree(path / "model")
        for file in manifest["files"]:
            file["path"] = file["path"].replace("model/model.safetensors", "model-00000.safetensors")
        manifest["files"] = [file for file in manifest["files"] if not file["path"].startswith("model/")]
        (path / "manifest.json").write_text(json.dumps(manifest | {"kind": "checkpoint"}))
    progress = RecordingProgress()

    case.run("broken", progress=progress)

    assert progress.notes == ["training continues after step 4"]
    assert case.weights("broken") == case.weights("whole")
