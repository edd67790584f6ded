"""The models of the quality benchmark, trained from scratch and cached.

Each source is a specialist of one domain. The strong ones have read all the text there is of it: far more
than the control can learn from the fusion corpus. The weak ones have read no more than the target.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from benchmarks.quality.regimes import Plan, Regime
from benchmarks.quality.texts import documents
from examples.demo.models import Recipe, make_model, recipe_digest

Checkpoints = dict[str, Path]


def make_checkpoints(
    plan: Plan, regime: Regime, *, cache: Path, say: Callable[[str], None]
) -> list[Checkpoints]:
    """Per seed: target, code and prose; what the cache does not hold is trained, two models at a time."""
    targets = [replace(plan.target, seed=seed) for seed in range(plan.num_seeds)]
    sources = plan.sources[regime.sources]
    folders = {recipe: cache / f"{recipe.name}-{recipe_digest(recipe)}" for recipe in (*targets, *sources)}
    missing = [recipe for recipe in folders if not (folders[recipe] / "demo.json").is_file()]
    if missing:
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            longest_first = sorted(missing, key=lambda recipe: -recipe.num_steps)
            jobs = [pool.submit(_train, recipe, folders[recipe], plan.libraries) for recipe in longest_first]
            for job in jobs:
                say(job.result())
    shared = {recipe.name: folders[recipe] for recipe in sources}
    return [{"target": folders[target], **shared} for target in targets]


def _train(recipe: Recipe, folder: Path, libraries: tuple[str, ...]) -> str:
    return make_model(recipe, documents("pretraining", libraries), folder)
