"""The row about a whole job: from the spec to the fused checkpoint, by the paper's rules."""

import time
from collections.abc import Iterator

from benchmarks import reference
from benchmarks.materials import SOURCES
from benchmarks.rows import REFERENCE_FIGURE, Row
from benchmarks.workbench import Workbench
from fusion.io.stage_inputs import StageInputs
from fusion.pipeline import run_stage
from fusion.plan import plan_steps
from fusion.progress import NullProgress

_LAST_STEP = "train.fused"


def rows(bench: Workbench) -> Iterator[Row]:
    """Every step up to the fused checkpoint, once."""
    spec = bench.spec("paper")
    folder = bench.scratch / "job"
    seconds: dict[str, float] = {}
    for step in plan_steps(spec):
        inputs = StageInputs(subject=step.subject, steps={name: folder / name for name in step.needs})
        began = time.perf_counter()
        report = run_stage(step.stage, spec, inputs, folder / step.name, progress=NullProgress())
        seconds[step.name] = time.perf_counter() - began
        if step.name == "align":
            num_target_tokens = report.figures["num_target_tokens"]
        if step.name == _LAST_STEP:
            break
    total = sum(seconds.values())
    yield Row(
        name="whole_job.align_share",
        work="of the whole job's time; at this size most of it goes into the paper's vocabulary maps",
        unit="share",
        measured=seconds["align"] / total,
        details={"seconds": seconds},
    )
    reference_seconds = reference.job_seconds(
        num_target_tokens=num_target_tokens, num_sources_mapped=len(SOURCES)
    )
    yield Row(
        name="whole_job",
        work=f"{num_target_tokens:,} target tokens, 3 models: prepare, extract, align, train (paper)",
        unit="s",
        measured=total,
        compared=reference_seconds,
        compared_with="sum of the reference's stages, for as many tokens",
        basis=REFERENCE_FIGURE,
        ratio=reference_seconds / total,
        direction="at least",
        target_ratio=20.0,
        details={"seconds": seconds},
    )
