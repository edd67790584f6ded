"""Seconds of a step whose like has never finished here: its operations or tokens at an assumed speed."""

import math
from collections.abc import Mapping
from typing import Final

from app.jobs.estimates.figures import Basis, Figure
from app.jobs.workload import CorpusSize, num_sequences_trained
from fusion.job_sizes import forward_operations, training_operations
from fusion.plan import PlannedStep
from fusion.spec import FusionSpec

_STARTUP_SECONDS: Final = (3.0, 10.0, 40.0)
"""Of a process that loads its libraries and a model."""
_OPERATIONS_PER_SECOND: Final = (2e10, 2e12, 2e14)
"""A laptop's CPU; a GPU at two fifths of 500 TFLOP/s; and the middle between them, on a scale of powers."""
_TOKENS_PER_SECOND: Final = {"prepare": (5e4, 3e5, 2e6), "align": (2e4, 1e5, 1e6)}
"""Of one model on a CPU."""
_COPIED_BYTES_PER_SECOND: Final = (1e8, 4e8, 2e9)


def seconds_computed(
    spec: FusionSpec,
    step: PlannedStep,
    *,
    tokens: Figure,
    size: CorpusSize | None,
    parameters: Mapping[str, Figure],
) -> Figure:
    """`tokens`: of the text as the target reads it. `parameters`: by name of the model."""
    involved = _models_of(spec, step)
    needed = [tokens, *(parameters[name] for name in involved)]
    missing = next((figure for figure in needed if figure.value is None), None)
    if missing is not None:
        return Figure.unknown(missing.why)
    unseen = f"as no {step.stage} step has finished here"
    if step.stage in _TOKENS_PER_SECOND:
        speeds = _TOKENS_PER_SECOND[step.stage]
        why = f"assumed: {speeds[1]:,.0f} tokens per second and model, {unseen}"
        return _at_speed([[tokens]], len(spec.sources) + 1, speeds, why=why)
    if step.stage == "publish":
        why = f"assumed: {_COPIED_BYTES_PER_SECOND[1] / 1e6:,.0f} MB copied per second, {unseen}"
        return _at_speed([[parameters["target"]]], 4, _COPIED_BYTES_PER_SECOND, why=why)
    why = f"assumed: {_OPERATIONS_PER_SECOND[1] / 1e12:g} TFLOP/s, between a CPU and a GPU, {unseen}"
    repeated = _share_of_text(spec, step, size) * _operations_per_token_and_parameter(spec, step)
    factors = [[tokens, parameters[name]] for name in involved]
    return _at_speed(factors, repeated, _OPERATIONS_PER_SECOND, why=why)


def _models_of(spec: FusionSpec, step: PlannedStep) -> list[str]:
    """Names of the models that a step runs, each as often as it runs something of that size."""
    if step.stage == "extract":
        return [step.subject or "target"]
    if step.stage == "evaluate":
        num_trained = 2 if spec.evaluation.control else 1
        return [*(source.name for source in spec.sources), *["target"] * (1 + num_trained)]
    return ["target"] if step.stage in ("train", "publish") else []


def _operations_per_token_and_parameter(spec: FusionSpec, step: PlannedStep) -> float:
    if step.stage == "train":
        recomputes = spec.training.gradient_checkpointing
        return training_operations(num_parameters=1, num_tokens=1, recomputes=recomputes)
    return forward_operations(num_parameters=1, num_tokens=1)


def _share_of_text(spec: FusionSpec, step: PlannedStep, size: CorpusSize | None) -> float:
    """How often the step reads the text, or which part of it."""
    held_out = spec.corpus.held_out_fraction
    if step.stage == "evaluate":
        return held_out
    if step.stage != "train" or size is None:
        return 1.0 - held_out
    windows = size.num_train_windows
    read = num_sequences_trained(spec.model_dump(mode="json"), num_windows=windows)
    return (1.0 - held_out) * read / windows


def _at_speed(
    products: list[list[Figure]], times: float, speeds: tuple[float, float, float], *, why: str
) -> Figure:
    """The sum of the products, so many times, at a speed between the slow and the fast one."""
    slow, usual, fast = speeds
    soon, typical, late = _STARTUP_SECONDS
    return Figure.within(
        soon + times * sum(math.prod(figure.low or 0.0 for figure in factors) for factors in products) / fast,
        typical
        + times * sum(math.prod(figure.value or 0.0 for figure in factors) for factors in products) / usual,
        late
        + times * sum(math.prod(figure.high or 0.0 for figure in factors) for factors in products) / slow,
        basis=Basis.DEFAULT,
        why=why,
    )
