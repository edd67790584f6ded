"""Rows about growth: what a byte of text costs, and what memory holds, at 1, 4 and 16 times the corpus."""

import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.materials import NAMES, make_materials
from benchmarks.measuring import core_seconds, relative_spread
from benchmarks.rows import SAME_RUN, Row
from benchmarks.scale_runs import StageCost, open_stage_runs
from benchmarks.texts import write_corpus
from benchmarks.workbench import Workbench
from fusion.corpus.cutting import cut_documents
from fusion.corpus.documents import iter_documents
from fusion.corpus.windowing import Reader
from fusion.plan import plan_steps
from fusion.spec import FusionSpec

_STAGES = ("prepare", "extract", "align")
_FACTORS = (1, 4, 16)
_MAX_GROWTH = 1.15
_MEGABYTE = 1e6

Costs = dict[int, StageCost]
"""Of one stage, by corpus size."""


def rows(bench: Workbench) -> Iterator[Row]:
    """Every stage before training, each time in a fresh process."""
    specs = {factor: _spec(bench, factor) for factor in _FACTORS}
    rounds: dict[str, list[Costs]] = {stage: [] for stage in _STAGES}
    for number in range(bench.sizes.growth.rounds):
        costs = {
            factor: _run_stages(spec, bench.scratch / f"scale-{factor}-{number}")
            for factor, spec in specs.items()
        }
        for stage in _STAGES:
            rounds[stage].append({factor: costs[factor][stage] for factor in _FACTORS})
    for stage in _STAGES:
        yield _time_per_byte(stage, rounds[stage])
        yield _peak_memory(stage, rounds[stage])
    yield _prepare_speed(bench, specs[_FACTORS[-1]])


def _spec(bench: Workbench, factor: int) -> FusionSpec:
    """Two small models, and shards so short that the smallest corpus has several."""
    growth = bench.sizes.growth
    sizes = replace(
        bench.sizes,
        vocabulary_size=growth.vocabulary_size,
        byte_level_vocabulary_size=growth.vocabulary_size,
        tokenizer_characters=growth.tokenizer_characters,
        max_tokens_per_window=growth.max_tokens_per_window,
        hidden_size=growth.hidden_size,
        num_layers=growth.num_layers,
    )
    materials = make_materials(bench.materials.cache, sizes, say=Console().print)
    corpus = write_corpus(
        bench.scratch / f"scale-{factor}.jsonl",
        num_documents=growth.num_documents * factor,
        max_characters=growth.max_document_characters,
    )
    data = (
        Workbench(sizes, materials, bench.scratch).spec("default").model_dump(mode="json", exclude_unset=True)
    )
    data["sources"] = data["sources"][:1]
    data["corpus"] |= {"files": [{"path": str(corpus)}], "windows_per_shard": growth.windows_per_shard}
    return FusionSpec.model_validate(data)


def _run_stages(spec: FusionSpec, folder: Path) -> dict[str, StageCost]:
    """What the steps of each stage took together; the peak is that of the largest."""
    costs: dict[str, StageCost] = {}
    with open_stage_runs(spec, folder) as runs:
        for step in plan_steps(spec):
            if step.stage in _STAGES:
                cost = runs.run(step)
                costs[step.stage] = costs[step.stage] + cost if step.stage in costs else cost
    return costs


def _time_per_byte(stage: str, rounds: list[Costs]) -> Row:
    """What a further byte costs in the large corpus and in the small one; loading a model drops out."""
    early = [costs[4].marginal_seconds(costs[1]) for costs in rounds]
    late = [costs[16].marginal_seconds(costs[4]) for costs in rounds]
    first, *_, last = (rounds[0][factor].num_bytes for factor in _FACTORS)
    return Row(
        name=f"scale.{stage}.time",
        work=f"{first:,} to {last:,} bytes of text: core time of each further byte",
        unit="core-µs/B",
        measured=statistics.median(late) * 1e6,
        compared=statistics.median(early) * 1e6,
        compared_with="from 1 to 4 times the smallest, not from 4 to 16",
        basis=SAME_RUN,
        **_ratio(late, early),
        details={
            "core_seconds": {factor: [costs[factor].core_seconds for costs in rounds] for factor in _FACTORS}
        },
    )


def _peak_memory(stage: str, rounds: list[Costs]) -> Row:
    """What a process takes above the libraries it starts with: those would hide a growth.

    From 4 to 16 times: at the smallest corpus not every buffer is full yet.
    """
    above = {factor: [costs[factor].added_bytes for costs in rounds] for factor in _FACTORS}
    return Row(
        name=f"scale.{stage}.memory",
        work=f"peak of a fresh process above its libraries, at {rounds[0][16].num_bytes:,} bytes of text",
        unit="B",
        measured=statistics.median(above[16]),
        compared=statistics.median(above[4]),
        compared_with=f"at {rounds[0][4].num_bytes:,} bytes",
        basis=SAME_RUN,
        **_ratio(above[16], above[4]),
        details={"added_bytes": above, "base_bytes": rounds[0][1].base_bytes},
    )


def _prepare_speed(bench: Workbench, growing: FusionSpec) -> Row:
    """The largest corpus, with the three tokenizers of the other rows; loading them is not counted."""
    documents = list(iter_documents(growing.corpus, files={}))
    max_tokens = bench.sizes.max_tokens_per_window
    readers = [Reader(encoder=bench.encoders[name], max_tokens=max_tokens) for name in NAMES]

    def cut() -> None:
        for _ in cut_documents(
            documents, readers=readers, max_tokens=max_tokens, num_threads=os.cpu_count() or 1
        ):
            pass

    timed = core_seconds(cut, repetitions=bench.sizes.repetitions)
    num_bytes = sum(len(document.text.encode()) for document in documents)
    return Row(
        name="prepare.speed",
        work=f"{num_bytes:,} bytes of text cut into windows for three tokenizers",
        unit="MB/s/core",
        measured=num_bytes / timed.median / _MEGABYTE,
        noise_margin=timed.noise_margin,
        details={"core_seconds": timed.seconds},
    )


def _ratio(measured: Sequence[float], compared: Sequence[float]) -> dict[str, Any]:
    ratios = [mine / theirs for mine, theirs in zip(measured, compared, strict=True)]
    return {
        "ratio": statistics.median(ratios),
        "direction": "at most",
        "target_ratio": _MAX_GROWTH,
        "noise_margin": relative_spread(ratios),
    }
