"""The GPU's rows, run whole on a CPU: only sizes, device and peak differ."""

from pathlib import Path

import pytest
import torch
import transformers as hf

from benchmarks import gpu
from benchmarks.flops import forward_flops_per_token, num_matrix_parameters, peak_flops
from benchmarks.gpu_model import GpuSizes, is_matrix_product
from benchmarks.rows import Verdict

TINY = GpuSizes(
    hidden_size=32,
    intermediate_size=64,
    num_layers=2,
    num_heads=4,
    num_key_value_heads=2,
    num_tokens=32,
    num_windows=2,
    repetitions=2,
)
NAMES = [
    "gpu_training_time.500.transformers",
    "gpu_training_time.500.control",
    "gpu_training.500",
    "gpu_training_memory.500.transformers",
    "gpu_training_memory.500.control",
    "gpu_profile.500",
    "gpu_extraction.500",
    "gpu_forward.500",
]


def tiny_rows(folder: Path, *, peak: float | None) -> dict[str, gpu.Row]:
    found = gpu.device_rows(
        folder,
        TINY,
        vocabulary_size=500,
        device=torch.device("cpu"),
        device_name="a CPU",
        peak=peak,
    )
    return {row.name: row for row in found}


def test_every_row_runs(tmp_path: Path) -> None:
    rows = tiny_rows(tmp_path / "block", peak=1e12)

    assert list(rows) == NAMES
    for row in rows.values():
        assert row.measured > 0
        assert (row.verdict is Verdict.NO_TARGET) == (row.ratio is None)
    training = rows["gpu_training.500"].details
    assert training["mfu"] == pytest.approx(
        rows["gpu_training.500"].measured * training["flops_per_token"] / 1e12
    )
    assert training["flops_per_token"] == 3 * rows["gpu_forward.500"].details["flops_per_token"]
    assert "MFU" in rows["gpu_training.500"].work
    assert 0 < rows["gpu_profile.500"].measured < 1
    assert any(map(is_matrix_product, rows["gpu_profile.500"].details["seconds_of_longest"]))


def test_without_a_known_peak_there_is_no_mfu(tmp_path: Path) -> None:
    row = tiny_rows(tmp_path / "block", peak=None)["gpu_training.500"]

    assert row.details["mfu"] is None
    assert "--peak-tflops" in row.work


def test_the_peak_is_that_of_the_device_unless_stated() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA A100-SXM4-40GB") == 312e12
    assert peak_flops("Some GPU") is None
    assert peak_flops("Some GPU", stated_tflops=50.0) == 50e12


def test_matrix_parameters_are_those_of_the_model() -> None:
    config = hf.LlamaConfig(
        vocab_size=500, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    model = hf.AutoModelForCausalLM.from_config(config)
    used = sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name)

    assert num_matrix_parameters(config) == used
    assert forward_flops_per_token(config, num_tokens=10) == 2 * used + 2 * 2 * 32 * 10


def test_the_large_model_has_about_a_billion_parameters() -> None:
    sizes = gpu.FULL_GPU
    config = hf.LlamaConfig(
        vocab_size=32_000,
        hidden_size=sizes.hidden_size,
        intermediate_size=sizes.intermediate_size,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads,
        num_key_value_heads=sizes.num_key_value_heads,
    )

    assert 0.9e9 < num_matrix_parameters(config) < 1.2e9
