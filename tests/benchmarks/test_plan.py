"""The plan on paper against figures worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.plan import CLUSTERS, Figure, LargeJob, Measurements, main, plan, read_measurements

FOUND = Measurements(
    extraction_ratio=Figure(value=0.5, basis="measured"),
    training_ratio=Figure(value=1.0, basis="measured"),
    align_speed=Figure(value=1e5, basis="measured"),
    capture_bytes=Figure(value=80.0, basis="measured"),
    mfu=Figure(value=0.4, basis="assumed"),
)


def row(name: str, **values: Any) -> dict[str, Any]:
    return {"name": name, "compared_with": "", "details": {}, "ratio": None, "measured": 1.0} | values


def test_hours_disk_and_memory_of_the_papers_run() -> None:
    stages = {stage.name: stage for stage in plan(LargeJob(), CLUSTERS[0], FOUND)}

    # 6 FLOP per parameter and token, a third more for recomputation, at 40 % of 8 x 312 TFLOP/s.
    assert stages["train, fused"].hours == pytest.approx(6 * 7e9 * 1.8e9 * 4 / 3 / (0.4 * 8 * 312e12) / 3600)
    assert stages["train, fused"].hours == pytest.approx(28, abs=0.5)
    assert stages["extract, 3 models"].hours == pytest.approx(3 * 7.01 / 0.5, abs=0.1)
    assert stages["extract, 3 models"].disk_bytes == pytest.approx(432e9)
    assert stages["align"].hours == pytest.approx(1.8e9 / 1e5 / 64 / 3600)
    assert stages["train, fused"].memory_bytes == pytest.approx(112e9)


def test_the_worst_row_counts_and_a_missing_one_is_its_target() -> None:
    found = read_measurements(
        [
            row("extraction.32000", ratio=0.9, compared_with="bare forward pass, same batches"),
            row("extraction.50254", ratio=0.8, compared_with="bare forward pass, same batches"),
            row("extraction.50254.reference", ratio=5.0, compared_with="the reference's fastest source"),
            row("training_time.128x2.32000.transformers", ratio=0.9),
            row("training_time.128x2.32000.control", ratio=1.3),
            row("gpu_training.32000", details={"mfu": 0.45}),
        ],
        assumed_mfu=0.4,
    )

    assert found.extraction_ratio == Figure(value=0.8, basis="measured")
    assert found.training_ratio == Figure(value=0.9, basis="measured")
    assert found.capture_bytes == Figure(value=80.0, basis="target")
    assert found.mfu == Figure(value=0.45, basis="measured")


@pytest.mark.parametrize(("sizes_name", "shown"), [("full", "41 | measured"), ("quick", "80 | target")])
def test_only_a_full_run_counts(
    sizes_name: str, shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "latest.json"
    path.write_text(json.dumps({"sizes_name": sizes_name, "rows": [row("extraction.disk", measured=41.0)]}))

    main(["--results", str(path)])

    text = capsys.readouterr().out
    assert f"capture bytes | {shown}" in text
    assert "does not fit" in text
