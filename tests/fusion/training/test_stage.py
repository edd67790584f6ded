"""Stage `train`: what it leaves, and that interruptions, memory and bad numbers are survived or reported."""

import json
import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from fusion.errors import CapacityError, InfrastructureError, TrainingDiverged
from fusion.io.manifest import read_manifest
from fusion.training import stage
from fusion.training.student import Student
from tests.fusion.training.lessons import make_lessons, write_align_folder
from tests.fusion.training.runs import LENGTHS, Interrupted, RecordingProgress, TrainingCase, make_spec
from tests.support.tiny_models import save_tiny_checkpoint


@pytest.fixture
def case(tmp_path) -> TrainingCase:
    return TrainingCase(tmp_path)


def interrupt(case: TrainingCase, name: str, *, after_step: int) -> RecordingProgress:
    progress = RecordingProgress(stop_after_step=after_step)
    with pytest.raises(Interrupted):
        case.run(name, progress=progress)
    return progress


def test_leaves_a_model_that_loads(case):
    report = case.run("fused")

    folder = case.folder / "fused"
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    before = load_file(case.target / "model.safetensors")
    moved = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert len(moved) == len(before)
    assert AutoTokenizer.from_pretrained(folder / "model").vocab_size == 1500
    tokenizer_file = "tokenizer.json"
    assert (folder / "model" / tokenizer_file).read_bytes() == (case.target / tokenizer_file).read_bytes()
    names = [file.path for file in read_manifest(folder, kind="trained").files]
    assert "training.json" in names
    assert "model/model.safetensors" in names
    assert not any(name.startswith("checkpoints") for name in names)
    assert report.figures["num_steps"] == 6


def test_records_a_falling_loss(case):
    progress = RecordingProgress()

    case.run("fused", progress=progress)

    record = json.loads((case.folder / "fused" / "training.json").read_text())
    assert [point["step"] for point in record["curve"]] == [1, 2, 3, 4, 5, 6]
    assert record["curve"][-1]["clm_loss"] < record["curve"][0]["clm_loss"]
    names = {"loss", "clm_loss", "fusion_loss", "learning_rate", "grad_norm", "tokens", "tokens_per_second"}
    assert set(progress.values[0]) == names
    # 63 tokens in 7 sequences, twice.
    assert progress.updates[-1] == (6, 6, 2 * (63 - 7))


def test_twice_interrupted_run_gives_the_same_bytes(case):
    case.run("whole")

    interrupt(case, "broken", after_step=3)
    interrupt(case, "broken", after_step=5)
    progress = RecordingProgress()
    case.run("broken", progress=progress)

    assert progress.notes == ["training continues after step 4"]
    assert case.weights("broken") == case.weights("whole")
    assert (case.folder / "broken/training.json").read_bytes() == (
        case.folder / "whole/training.json"
    ).read_bytes()


def test_asked_to_end_it_stores_a_checkpoint_between_two_and_loses_nothing(case):
    case.run("whole")
    progress = RecordingProgress(end_after_step=3)

    with pytest.raises(InfrastructureError, match="after step 3") as ended:
        case.run("ended", progress=progress)
    again = RecordingProgress()
    case.run("ended", progress=again)

    assert ended.value.code == "stage_terminated"
    assert progress.updates[-1][0] == 3
    assert again.updates[0][0] == 4
    assert case.weights("ended") == case.weights("whole")


def test_damaged_checkpoint_gives_way_to_the_one_before(case):
    case.run("whole")
    interrupt(case, "broken", after_step=5)
    damaged = case.folder / "broken/checkpoints/step-00000004/model/model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\xff")

    progress = RecordingProgress()
    case.run("broken", progress=progress)

    assert progress.notes[0].startswith("checkpoint step-00000004 is not used")
    assert progress.notes[1] == "training continues after step 2"
    assert case.weights("broken") == case.weights("whole")


def test_checkpoint_of_other_settings_is_not_resumed(case):
    interrupt(case, "fused", after_step=3)

    progress = RecordingProgress()
    case.run("fused", progress=progress, spec=make_spec(case.target, learning_rate=2e-3))

    assert progress.notes == ["checkpoint step-00000002 is not used: it belongs to a run with other settings"]


def test_checkpoint_of_another_target_at_the_same_path_is_not_resumed(case):
    interrupt(case, "fused", after_step=3)
    save_tiny_checkpoint(case.target, seed=9)

    progress = RecordingProgress()
    case.run("fused", progress=progress)

    assert progress.notes == ["checkpoint step-00000002 is not used: it belongs to a run with other settings"]


def test_checkpoint_is_resumed_where_the_target_has_moved(case):
    interrupt(case, "fused", after_step=3)
    moved = case.target.rename(case.target.with_name("moved"))

    report = case.run("fused", spec=make_spec(moved))

    assert report.figures["num_resumed_steps"] == 2


def test_checkpoints_are_announced_and_the_last_two_kept(tmp_path):
    case = TrainingCase(tmp_path, checkpoint_every_steps=1)
    progress = RecordingProgress()

    case.run("fused", progress=progress)

    assert progress.parts == [f"step-0000000{step}" for step in range(1, 7)]
    kept = sorted(path.name for path in (tmp_path / "fused/checkpoints").iterdir())
    assert kept == ["step-00000005", "step-00000006"]
    assert read_manifest(tmp_path / "fused/checkpoints/step-00000006").meta["step"] == 6


def test_size_of_micro_batches_changes_only_rounding(case):
    case.run("small")
    case.run("large", spec=make_spec(case.target, max_tokens_per_micro_batch=1000))

    small, large = (load_file(case.folder / name / "model/model.safetensors") for name in ("small", "large"))
    for name, tensor in small.items():
        torch.testing.assert_close(tensor, large[name], rtol=1e-3, atol=2e-5)


def test_control_never_reads_the_rows(case):
    report = case.run("control", subject="control")
    silent = [make_lessons(LENGTHS[:4], seed=1, spoken=0), make_lessons(LENGTHS[4:], seed=2, spoken=0)]
    case.align = write_align_folder(case.folder / "silent-align", silent)
    case.run("silent", subject="control")

    assert case.weights("control") == case.weights("silent")
    assert "fusion_loss" not in report.figures
    assert report.figures["loss"] == report.figures["clm_loss"]


class OutOfMemoryAbove:
    """A model hook that fails on batches of more tokens than fit."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens

    def __call__(self, module, args, kwargs) -> None:
        if kwargs["input_ids"].numel() > self.max_tokens:
            raise torch.OutOfMemoryError("no room")


def limit_memory(monkeypatch, max_tokens: int) -> None:
    load_student = stage._load_student

    def load_limited(*args, **kwargs) -> Student:
        student = load_student(*args, **kwargs)
        student.model.base_model.register_forward_pre_hook(OutOfMemoryAbove(max_tokens), with_kwargs=True)
        return student

    monkeypatch.setattr(stage, "_load_student", load_limited)


def test_out_of_memory_halves_the_micro_batch_and_goes_on(case, monkeypatch):
    case.run("roomy", spec=make_spec(case.target, max_tokens_per_micro_batch=12))
    limit_memory(monkeypatch, 12)
    progress = RecordingProgress()

    case.run("tight", progress=progress, spec=make_spec(case.target, max_tokens_per_micro_batch=30))

    assert (
        progress.notes == ["out of memory: micro-batches are halved, the optimiser step stays the same"] * 2
    )
    roomy, tight = (load_file(case.folder / name / "model/model.safetensors") for name in ("roomy", "tight"))
    torch.testing.assert_close(tight, roomy, rtol=1e-3, atol=2e-5)


def test_one_sequence_too_large_for_memory_is_a_capacity_error(case, monkeypatch):
    limit_memory(monkeypatch, 5)

    with pytest.raises(CapacityError) as caught:
        case.run("fused")

    assert caught.value.code == "out_of_memory"
    assert "max_tokens_per_window" in caught.value.hint


def test_loss_that_is_no_number_stops_the_run(case):
    path = case.target / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"][0] = math.nan
    save_file(weights, path, metadata={"format": "pt"})

    with pytest.raises(TrainingDiverged) as caught:
        case.run("fused")

    assert "step 1" in caught.value.message
    assert caught.value.pointer == "/training/learning_rate"
    assert not (case.folder / "fused/manifest.json").exists()


def test_output_dtype_and_shard_size(case):
    spec = case.spec.model_copy(
        update={
            "output": case.spec.output.model_copy(update={"dtype": "bfloat16", "max_shard_bytes": 100_000})
        }
    )

    case.run("fused", spec=spec)

    files = sorted((case.folder / "fused/model").glob("*.safetensors"))
    assert len(files) > 1
    with safe_open(files[0], framework="pt") as tensors:
        assert tensors.get_tensor(next(iter(tensors.keys()))).dtype == torch.bfloat16
    config = json.loads((case.folder / "fused/model/config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert str(case.folder) not in json.dumps(config)


def test_generation_config_is_the_targets_own(case):
    # transformers refuses to save a temperature without sampling, which published models do ship.
    text = '{"temperature": 0.5, "do_sample": false}'
    (case.target / "generation_config.json").write_text(text)

    case.run("fused")

    assert (case.folder / "fused/model/generation_config.json").read_text() == text


def test_gradient_checkpointing_changes_nothing(case):
    case.run("stored")
    case.run("recomputed", spec=make_spec(case.target, gradient_checkpointing=True))

    assert case.weights("stored") == case.weights("recomputed")


def test_bf16_compute_keeps_fp32_master_weights(case):
    case.run("fused", spec=make_spec(case.target, dtype="bfloat16"))

    with safe_open(case.folder / "fused/model/model.safetensors", framework="pt") as tensors:
        assert tensors.get_tensor(next(iter(tensors.keys()))).dtype == torch.float32
