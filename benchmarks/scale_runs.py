"""Steps of a job, each in a fresh process: memory that was used once is not given back."""

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from benchmarks.process_memory import peak_bytes, resident_bytes
from fusion.io.manifest import read_manifest
from fusion.io.stage_inputs import StageInputs
from fusion.pipeline import MODULE_OF_STAGE, run_stage
from fusion.plan import PlannedStep
from fusion.progress import NullProgress
from fusion.spec import FusionSpec

_IMPORTED_ONCE = [
    "benchmarks.__main__",
    "transformers.models.llama.modeling_llama",
    *(MODULE_OF_STAGE[stage] for stage in ("prepare", "extract", "align")),
]
"""Importing takes far longer than the work. The first is what a child of `-m benchmarks` starts with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageCost:
    """What the steps of one stage took.

    base_bytes: what the process held before the step: libraries. peak_bytes: the most it held, all included.
    """

    num_bytes: int
    core_seconds: float
    base_bytes: int
    peak_bytes: int

    def __add__(self, other: "StageCost") -> "StageCost":
        return StageCost(
            num_bytes=self.num_bytes,
            core_seconds=self.core_seconds + other.core_seconds,
            base_bytes=max(self.base_bytes, other.base_bytes),
            peak_bytes=max(self.peak_bytes, other.peak_bytes),
        )

    @property
    def added_bytes(self) -> int:
        """Model, buffers and data."""
        return self.peak_bytes - self.base_bytes

    def marginal_seconds(self, smaller: "StageCost") -> float:
        """Core-seconds per byte that the smaller corpus lacks."""
        return (self.core_seconds - smaller.core_seconds) / (self.num_bytes - smaller.num_bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class StageRuns:
    """Runs the steps of one job; `open_stage_runs` makes it."""

    pool: ProcessPoolExecutor
    spec: FusionSpec
    folder: Path

    def run(self, step: PlannedStep) -> StageCost:
        """Run a step whose needs have been run."""
        inputs = StageInputs(subject=step.subject, steps={name: self.folder / name for name in step.needs})
        return self.pool.submit(_run, step, self.spec, inputs, self.folder).result()


@contextmanager
def open_stage_runs(spec: FusionSpec, folder: Path) -> Iterator[StageRuns]:
    """Processes are forked from one that has imported the engine and run nothing, and serve once each."""
    context = get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED_ONCE)
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        yield StageRuns(pool=pool, spec=spec, folder=folder)


def _run(step: PlannedStep, spec: FusionSpec, inputs: StageInputs, folder: Path) -> StageCost:
    base = resident_bytes()
    began = time.process_time()
    run_stage(step.stage, spec, inputs, folder / step.name, progress=NullProgress())
    return StageCost(
        num_bytes=int(read_manifest(folder / "prepare").meta["num_bytes"]),
        core_seconds=time.process_time() - began,
        base_bytes=base,
        peak_bytes=peak_bytes(),
    )
