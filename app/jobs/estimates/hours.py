"""How long workers will be busy with each step: what such a step took here, else an assumed speed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.jobs.estimates.figures import Basis, Figure, weakest
from app.jobs.estimates.operations import seconds_computed
from app.jobs.experience import Expected, Measured, Task, expected_seconds
from app.jobs.workload import CorpusSize, label_of_model, model_of_step, work_of_step
from fusion.plan import PlannedStep, plan_steps
from fusion.spec import FusionSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """What time depends on. tokens: of the text as the target reads it. parameters: by name of the model."""

    corpus: CorpusSize | None
    tokens: Figure
    parameters: Mapping[str, Figure]


def seconds_of_plan(spec: FusionSpec, sizes: Sizes, measured: Sequence[Measured]) -> dict[str, Figure]:
    """Seconds of every step of the plan, by its name."""
    data = spec.model_dump(mode="json")
    return {step.name: _seconds_of(spec, data, step, sizes, measured) for step in plan_steps(spec)}


def _seconds_of(
    spec: FusionSpec, data: dict[str, Any], step: PlannedStep, sizes: Sizes, measured: Sequence[Measured]
) -> Figure:
    name = model_of_step(data, stage=step.stage, subject=step.subject)
    task = Task(
        job_id=None,
        stage=step.stage,
        model=label_of_model(data, name),
        work=work_of_step(data, stage=step.stage, size=sizes.corpus),
        num_parameters=None if name is None else sizes.parameters[name].value,
    )
    expected = expected_seconds(task, measured)
    is_comparable = expected is not None and (
        expected.is_same_model or task.model is None or task.num_parameters is not None
    )
    if expected is not None and is_comparable and (task.work is not None or step.stage == "publish"):
        return _from_experience(expected, step, task, sizes)
    return seconds_computed(spec, step, tokens=sizes.tokens, size=sizes.corpus, parameters=sizes.parameters)


def _from_experience(expected: Expected, step: PlannedStep, task: Task, sizes: Sizes) -> Figure:
    is_same = expected.is_same_model or task.model is None
    tokens = sizes.tokens
    # Machines differ from day to day, whatever the history says; so may the text from what is expected.
    fewer = 0.7 * (tokens.low / tokens.value if tokens.low and tokens.value else 1.0)
    more = 1.5 * (tokens.high / tokens.value if tokens.high and tokens.value else 1.0)
    number = expected.num_measured
    cached = ""
    if step.stage == "extract":
        # What a worker's cache still holds of the text, the model does not read again.
        fewer, cached = 0.1 * fewer, ", less where captures are still cached"
    of_model = "" if task.model is None else " of this model" if is_same else " of other models, scaled"
    return Figure.within(
        fewer * expected.low,
        expected.seconds,
        more * expected.high,
        basis=weakest([Basis.MEASURED if is_same else Basis.MODELLED, tokens.basis]),
        why=f"{number} {step.stage} {'step' if number == 1 else 'steps'}{of_model} finished here{cached}",
    )
