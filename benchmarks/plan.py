"""`python -m benchmarks.plan`: hours, disk and memory of a large job, from the latest measurements.

What a row of the JSON says is used; a row that is missing there is replaced by its target, and a speed that
no row gives by an assumption. The table says which of the three stands behind every figure.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Basis = Literal["measured", "target", "assumed"]

_LATEST = Path(__file__).parent / "results" / "latest.json"
_BYTES_PER_ENTRY = 4 + 2
"""Of a lesson: id and weight."""
_BYTES_PER_ROW = 4 + 8 + 2 + 1 + 1 + 2
"""Of a lesson: token, start of the row, tail, speaker, rival and its nats."""
_STATE_BYTES_PER_PARAMETER = 16
"""fp32 weight, gradient and two moments."""
_CHECKPOINT_BYTES_PER_PARAMETER = 12
_KEPT_CHECKPOINTS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class LargeJob:
    """The paper's run by default: three sources of 7B over 1.8 B tokens, one of them the target."""

    num_tokens: float = 1.8e9
    num_captures: int = 3
    num_parameters: float = 7e9
    num_entries: int = 20
    bytes_per_token: float = 4.0
    """Of text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """Devices of one kind, and the cores beside them. `peak_flops`: dense bf16, of one device."""

    name: str
    peak_flops: float
    memory_bytes: float
    num_devices: int = 8
    num_cores: int = 64


CLUSTERS = (
    Cluster(name="8 x A100 40 GB", peak_flops=312e12, memory_bytes=40e9),
    Cluster(name="8 x H100 80 GB", peak_flops=989e12, memory_bytes=80e9),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A number and what stands behind it."""

    value: float
    basis: Basis


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurements:
    """What the plan takes from the benchmarks.

    extraction_ratio: of a bare forward pass. training_ratio: of plain CLM. align_speed: target tokens per
    second and core. capture_bytes: per token and model. mfu: of plain training.
    """

    extraction_ratio: Figure
    training_ratio: Figure
    align_speed: Figure
    capture_bytes: Figure
    mfu: Figure


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One line of the plan. `memory_bytes`: of one device, 0 where none is used."""

    name: str
    hours: float
    disk_bytes: float
    memory_bytes: float = 0.0


def read_measurements(rows: Sequence[Mapping[str, Any]], *, assumed_mfu: float) -> Measurements:
    """The worst row of each kind: a plan should not be met by luck."""
    extraction = [row["ratio"] for row in _named(rows, "extraction.") if "forward" in row["compared_with"]]
    training = [
        row["ratio"] for row in _named(rows, "training_time.") if row["name"].endswith("transformers")
    ]
    mfus = [row["details"]["mfu"] for row in _named(rows, "gpu_training.") if row["details"]["mfu"]]
    return Measurements(
        extraction_ratio=_figure(extraction, min, otherwise=0.85),
        training_ratio=_figure(training, max, otherwise=1.10),
        align_speed=_figure(
            [row["measured"] for row in _named(rows, "align.default")], min, otherwise=1e5, basis="assumed"
        ),
        capture_bytes=_figure(
            [row["measured"] for row in _named(rows, "extraction.disk")], max, otherwise=80.0
        ),
        mfu=_figure(mfus, min, otherwise=assumed_mfu, basis="assumed"),
    )


def plan(job: LargeJob, cluster: Cluster, found: Measurements) -> list[Stage]:
    """The stages of a job; training recomputes its activations, which takes a third more."""
    flops_per_second = cluster.num_devices * cluster.peak_flops * found.mfu.value
    forward = 2 * job.num_parameters * job.num_tokens / flops_per_second / 3600
    training = 3 * forward * 4 / 3 * found.training_ratio.value
    aligning = job.num_tokens / found.align_speed.value / cluster.num_cores / 3600
    lesson_bytes = job.num_tokens * (_BYTES_PER_ROW + job.num_entries * _BYTES_PER_ENTRY)
    state_bytes = _STATE_BYTES_PER_PARAMETER * job.num_parameters
    checkpoints = _KEPT_CHECKPOINTS * _CHECKPOINT_BYTES_PER_PARAMETER * job.num_parameters
    capture = Stage(
        name=f"extract, {job.num_captures} models",
        hours=job.num_captures * forward / found.extraction_ratio.value,
        disk_bytes=job.num_captures * job.num_tokens * found.capture_bytes.value,
        memory_bytes=2 * job.num_parameters,
    )
    return [
        Stage(name="corpus", hours=0.0, disk_bytes=job.num_tokens * job.bytes_per_token),
        capture,
        Stage(name="align", hours=aligning, disk_bytes=lesson_bytes),
        Stage(name="train, fused", hours=training, disk_bytes=checkpoints, memory_bytes=state_bytes),
        Stage(
            name="train, control",
            hours=training / found.training_ratio.value,
            disk_bytes=checkpoints,
            memory_bytes=state_bytes,
        ),
    ]


def render(job: LargeJob, found: Measurements) -> str:
    """The plan in Markdown, one table per cluster, after the figures it rests on."""
    lines = ["| figure | value | basis |", "|---|---|---|"]
    for name in Measurements.__slots__:
        figure: Figure = getattr(found, name)
        lines.append(f"| {name.replace('_', ' ')} | {figure.value:,.3g} | {figure.basis} |")
    for cluster in CLUSTERS:
        lines += ["", f"| {cluster.name} | hours | disk, GB | weights and state, GB per GPU | on one GPU |"]
        lines.append("|---|---|---|---|---|")
        lines += [_line(stage, cluster) for stage in plan(job, cluster, found)]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the plan."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__)
    parser.add_argument("--results", type=Path, default=_LATEST, help="JSON of a run of the benchmarks")
    parser.add_argument("--mfu", type=float, default=0.40, help="assumed where no GPU was measured")
    options = parser.parse_args(arguments)
    data = json.loads(options.results.read_text(encoding="utf-8")) if options.results.is_file() else {}
    # Tiny sizes judge nothing, so they plan nothing either.
    rows = data.get("rows", []) if data.get("sizes_name") == "full" else []
    print(render(LargeJob(), read_measurements(rows, assumed_mfu=options.mfu)))


def _named(rows: Sequence[Mapping[str, Any]], prefix: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["name"].startswith(prefix)]


def _figure(values: list[float], worst: Any, *, otherwise: float, basis: Basis = "target") -> Figure:
    return Figure(value=worst(values), basis="measured") if values else Figure(value=otherwise, basis=basis)


def _line(stage: Stage, cluster: Cluster) -> str:
    fits = (
        ""
        if not stage.memory_bytes
        else "fits"
        if stage.memory_bytes < cluster.memory_bytes
        else "does not fit"
    )
    memory = f"{stage.memory_bytes / 1e9:,.0f}" if stage.memory_bytes else ""
    return f"| {stage.name} | {stage.hours:.2f} | {stage.disk_bytes / 1e9:,.0f} | {memory} | {fits} |"


if __name__ == "__main__":
    main()
