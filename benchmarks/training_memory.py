"""Peak memory of training steps, each in a fresh process: memory that was used once is not given back."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from benchmarks.process_memory import peak_bytes, reset_peak, resident_bytes
from benchmarks.training_block import BlockTrainer, Method


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMemory:
    """Measures steps on one block; `open_step_memory` makes it."""

    pool: ProcessPoolExecutor
    folder: Path
    vocabulary_size: int
    hidden_size: int
    num_layers: int

    def peak_bytes(self, method: Method) -> int:
        """What a process held at most during the step, less what it held before."""
        arguments = (self.folder, method, self.vocabulary_size, self.hidden_size, self.num_layers)
        return self.pool.submit(_measure, *arguments).result()


@contextmanager
def open_step_memory(
    folder: Path, *, vocabulary_size: int, hidden_size: int, num_layers: int
) -> Iterator[StepMemory]:
    """Processes are forked from one that has imported torch and computed nothing, and serve once each."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        yield StepMemory(
            pool=pool,
            folder=folder,
            vocabulary_size=vocabulary_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
        )


def _measure(folder: Path, method: Method, vocabulary_size: int, hidden_size: int, num_layers: int) -> int:
    trainer = BlockTrainer(
        folder, vocabulary_size=vocabulary_size, hidden_size=hidden_size, num_layers=num_layers
    )
    reset_peak()
    before = resident_bytes()
    trainer.step(method)
    return peak_bytes() - before
