"""Rows about `train`: a step with fusion against the same step without, on one block of tokens.

Plain CLM is measured twice: as transformers does it (`model(..., labels=...)`), and as this engine trains the
control, whose head runs in the same few passes. The first is what a user would otherwise run, the second
shows what fusion itself costs.
"""

import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks import reference
from benchmarks.measuring import Pair, core_seconds, interleaved, relative_spread
from benchmarks.rows import REFERENCE_FIGURE, SAME_RUN, Row
from benchmarks.sizes import TrainedShape
from benchmarks.training_block import BlockTrainer, Method, write_block
from benchmarks.training_memory import open_step_memory
from benchmarks.workbench import Workbench
from fusion.training.batches import collate

_MAX_RATIO = 1.10
_MAX_WAIT_SHARE = 0.02
_WORDS: dict[Method, str] = {"transformers": "plain CLM (transformers)", "control": "plain CLM (this engine)"}


def rows(bench: Workbench) -> Iterator[Row]:
    """Collation, waiting, time and memory of a step, per model."""
    for number, shape in enumerate(bench.sizes.trained_shapes):
        folder = bench.scratch / f"block-{shape}"
        write_block(
            folder, num_tokens=bench.sizes.max_tokens_per_window, vocabulary_size=shape.vocabulary_size
        )
        trainer = BlockTrainer(folder, shape)
        if number == 0:
            yield _collation(bench, trainer)
            yield _waiting(bench, trainer, shape)
        for method in _WORDS:
            yield _time(bench, trainer, shape, method)
        del trainer
        yield from _memory(bench, folder, shape)


def _collation(bench: Workbench, trainer: BlockTrainer) -> Row:
    timed = core_seconds(lambda: collate([trainer.reader.read(0)]), repetitions=bench.sizes.repetitions * 2)
    return Row(
        name="collate",
        work=f"one {bench.sizes.max_tokens_per_window}-token block, 3 sources: read from disk and lay out",
        unit="core-s",
        measured=timed.median,
        compared=reference.COLLATION_SECONDS,
        compared_with="the reference",
        basis=REFERENCE_FIGURE,
        ratio=reference.COLLATION_SECONDS / timed.median,
        direction="at least",
        target_ratio=20.0,
        noise_margin=timed.noise_margin,
        details={"core_seconds": timed.seconds},
    )


def _waiting(bench: Workbench, trainer: BlockTrainer, shape: TrainedShape) -> Row:
    """Share of the steps' time in which the next batch was not ready yet."""
    waits, totals = trainer.fed_steps(bench.sizes.training_repetitions)
    shares = [wait / total for wait, total in zip(waits, totals, strict=True)]
    return Row(
        name="training_wait",
        work=_work(bench, shape, "waiting for the batch that a thread reads ahead"),
        unit="s",
        measured=statistics.median(waits),
        compared=statistics.median(totals),
        compared_with="the whole step",
        basis=SAME_RUN,
        ratio=statistics.median(shares),
        direction="at most",
        target_ratio=_MAX_WAIT_SHARE,
        details={"wait_seconds": waits, "step_seconds": totals},
    )


def _time(bench: Workbench, trainer: BlockTrainer, shape: TrainedShape, method: Method) -> Row:
    pair: Pair = interleaved(
        lambda: trainer.step("fused"),
        lambda: trainer.step(method),
        repetitions=bench.sizes.training_repetitions,
    )
    return Row(
        name=f"training_time.{shape}.{method}",
        work=_work(bench, shape, "read, collate, forward, loss, backward"),
        unit="s",
        measured=pair.first.median,
        compared=pair.second.median,
        compared_with=_WORDS[method],
        basis=SAME_RUN,
        ratio=pair.ratio,
        direction="at most",
        target_ratio=_MAX_RATIO,
        noise_margin=pair.noise_margin,
        details={"seconds": pair.first.seconds, "compared_seconds": pair.second.seconds},
    )


def _memory(bench: Workbench, folder: Path, shape: TrainedShape) -> Iterator[Row]:
    """Every method in each round, in processes of their own."""
    methods: tuple[Method, ...] = ("fused", *_WORDS)
    with open_step_memory(folder, shape) as memory:
        rounds = [
            {method: memory.peak_bytes(method) for method in methods}
            for _ in range(bench.sizes.memory_repetitions)
        ]
    for method, words in _WORDS.items():
        ratios = [peaks["fused"] / peaks[method] for peaks in rounds]
        yield Row(
            name=f"training_memory.{shape}.{method}",
            work=_work(bench, shape, "peak above what the process held before the step"),
            unit="MB",
            measured=statistics.median(peaks["fused"] for peaks in rounds) / 1e6,
            compared=statistics.median(peaks[method] for peaks in rounds) / 1e6,
            compared_with=words,
            basis=SAME_RUN,
            ratio=statistics.median(ratios),
            direction="at most",
            target_ratio=_MAX_RATIO,
            noise_margin=relative_spread(ratios),
            details={"bytes": rounds},
        )


def _work(bench: Workbench, shape: TrainedShape, what: str) -> str:
    model = f"{shape.num_layers} layers of {shape.hidden_size}, V = {shape.vocabulary_size:,}"
    return f"{bench.sizes.max_tokens_per_window} tokens, {model}: {what}"
