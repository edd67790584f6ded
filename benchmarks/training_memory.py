"""Peak memory of training steps, each in a fresh process: memory that was used once is not given back."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from benchmarks.process_memory import peak_bytes, reset_peak, resident_bytes
from benchmarks.sizes import TrainedShape
from benchmarks.training_block import BlockTrainer, Method


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMemory:
    """Measures steps on one block; `open_step_memory` makes it."""

    pool: ProcessPoolExecutor
    folder: Path
    shape: TrainedShape

    def peak_bytes(self, method: Method) -> int:
        """What a process held at most during the step, less what it held before."""
        return self.pool.submit(_measure, self.folder, method, self.shape).result()


@contextmanager
def open_step_memory(folder: Path, shape: TrainedShape) -> Iterator[StepMemory]:
    """Processes are forked from one that has imported torch and computed nothing, and serve once each."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        yield StepMemory(pool=pool, folder=folder, shape=shape)


def _measure(folder: Path, method: Method, shape: TrainedShape) -> int:
    trainer = BlockTrainer(folder, shape)
    reset_peak()
    before = resident_bytes()
    trainer.step(method)
    return peak_bytes() - before
