"""Rows about growth: what a token costs, and what memory holds, at 1, 4 and 16 times the corpus."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.rows import SAME_RUN, Row
from benchmarks.scale_runs import StageCost, open_stage_runs
from benchmarks.texts import write_corpus
from benchmarks.workbench import Workbench
from fusion.plan import plan_steps

_STAGES = ("prepare", "extract", "align")
_FACTORS = (1, 4, 16)
_MAX_GROWTH = 1.15
_MAX_ALIGN_SHARE = 0.5
_MEGABYTE = 1e6


def rows(bench: Workbench) -> Iterator[Row]:
    """Every stage before training, each time in a fresh process."""
    costs = {factor: _run_stages(bench, factor) for factor in _FACTORS}
    for stage in _STAGES:
        by_factor = {factor: costs[factor][stage] for factor in _FACTORS}
        yield _time_per_token(stage, by_factor)
        yield _peak_memory(stage, by_factor)
    largest = costs[_FACTORS[-1]]
    yield _prepare_speed(largest["prepare"])
    yield _align_share(largest)


def _run_stages(bench: Workbench, factor: int) -> dict[str, StageCost]:
    """What the steps of a stage took together; the peak is that of the largest."""
    folder = bench.scratch / f"scale-{factor}"
    corpus = write_corpus(
        folder / "corpus.jsonl",
        num_documents=bench.sizes.scale_documents * factor,
        max_characters=bench.sizes.max_document_characters,
    )
    spec = _spec(bench, corpus)
    costs: dict[str, StageCost] = {}
    with open_stage_runs(spec, folder) as runs:
        for step in plan_steps(spec):
            if step.stage in _STAGES:
                cost = runs.run(step)
                costs[step.stage] = costs[step.stage] + cost if step.stage in costs else cost
    return costs


def _spec(bench: Workbench, corpus: Path) -> Any:
    """Two models of one vocabulary size; shards so short that each corpus has several."""
    data = bench.spec("default").model_dump(mode="json", exclude_unset=True)
    data["sources"] = data["sources"][:1]
    data["corpus"] |= {"files": [{"path": str(corpus)}], "windows_per_shard": 8}
    return type(bench.spec("default")).model_validate(data)


def _time_per_token(stage: str, costs: dict[int, StageCost]) -> Row:
    """What a further byte costs in the large corpus and in the small one; loading a model drops out."""
    one, four, sixteen = (costs[factor] for factor in _FACTORS)
    early, late = four.marginal_seconds(one), sixteen.marginal_seconds(four)
    return Row(
        name=f"scale.{stage}.time",
        work=f"{four.num_bytes:,} to {sixteen.num_bytes:,} bytes of text: time of each further byte",
        unit="core-µs/B",
        measured=late * 1e6,
        compared=early * 1e6,
        compared_with=f"from {one.num_bytes:,} to {four.num_bytes:,} bytes",
        basis=SAME_RUN,
        ratio=late / early,
        direction="at most",
        target_ratio=_MAX_GROWTH,
        details={"core_seconds": {factor: cost.core_seconds for factor, cost in costs.items()}},
    )


def _peak_memory(stage: str, costs: dict[int, StageCost]) -> Row:
    first, last = costs[_FACTORS[0]], costs[_FACTORS[-1]]
    return Row(
        name=f"scale.{stage}.memory",
        work=f"peak of a fresh process, {first.num_bytes:,} bytes and {_FACTORS[-1]} times as much",
        unit="B",
        measured=last.peak_bytes,
        compared=first.peak_bytes,
        compared_with="the small corpus",
        basis=SAME_RUN,
        ratio=last.peak_bytes / first.peak_bytes,
        direction="at most",
        target_ratio=_MAX_GROWTH,
        details={"peak_bytes": {factor: cost.peak_bytes for factor, cost in costs.items()}},
    )


def _prepare_speed(cost: StageCost) -> Row:
    return Row(
        name="prepare.speed",
        work=f"{cost.num_bytes:,} bytes cut into windows for two tokenizers",
        unit="MB/s/core",
        measured=cost.num_bytes / cost.core_seconds / _MEGABYTE,
        details={"core_seconds": cost.core_seconds, "wall_seconds": cost.wall_seconds},
    )


def _align_share(costs: dict[str, StageCost]) -> Row:
    total = sum(cost.wall_seconds for cost in costs.values())
    share = costs["align"].wall_seconds / total
    return Row(
        name="scale.align_share",
        work="of the wall time of prepare, extract and align, with the default preset",
        unit="share",
        measured=share,
        compared=_MAX_ALIGN_SHARE,
        compared_with="the most it may be",
        basis=SAME_RUN,
        ratio=share / _MAX_ALIGN_SHARE,
        direction="at most",
        target_ratio=1.0,
        details={stage: cost.wall_seconds for stage, cost in costs.items()},
    )
