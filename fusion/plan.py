"""What has to run for a spec, as a graph of planned steps. Pure: no I/O, no torch.

The engine on its own walks this list in order; the service stores one row per planned step. Both see the
same graph, so a job gives the same model either way.
"""

from dataclasses import dataclass
from typing import Literal

from fusion.spec import FusionSpec

Stage = Literal["prepare", "extract", "align", "train", "evaluate", "publish"]
Resource = Literal["cpu", "gpu"]

STAGES: tuple[Stage, ...] = ("prepare", "extract", "align", "train", "evaluate", "publish")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedStep:
    """One unit of work of a job.

    `name` is unique in the job: the stage, or stage and subject (`extract.mpt`, `train.control`).
    `subject` is the model or role the stage works on, where it works on one.
    `needs` are the steps whose output this one reads; it becomes ready when all have succeeded.
    `weight` is its expected share of the job's time, for the overall percentage only.
    """

    name: str
    stage: Stage
    subject: str | None
    needs: tuple[str, ...]
    resource: Resource
    weight: float


def plan_steps(spec: FusionSpec) -> list[PlannedStep]:
    """The steps of a job in an order that respects their needs."""
    steps = [_step("prepare", weight=1)]
    steps += [_step("extract", name, needs=("prepare",), weight=6) for name in spec.captured_names]
    captures = tuple(f"extract.{name}" for name in spec.captured_names)
    steps.append(_step("align", needs=("prepare", *captures), weight=2))
    roles = ("fused", "control") if spec.evaluation.control else ("fused",)
    steps += [_step("train", role, needs=("align",), weight=20) for role in roles]
    trained = tuple(f"train.{role}" for role in roles)
    steps.append(_step("evaluate", needs=("prepare", *trained), weight=4))
    steps.append(_step("publish", needs=("prepare", *captures, "align", "train.fused", "evaluate"), weight=1))
    return steps


_RESOURCE: dict[Stage, Resource] = {
    "prepare": "cpu",
    "extract": "gpu",
    "align": "cpu",
    "train": "gpu",
    "evaluate": "gpu",
    "publish": "cpu",
}


def _step(
    stage: Stage, subject: str | None = None, *, needs: tuple[str, ...] = (), weight: float
) -> PlannedStep:
    return PlannedStep(
        name=stage if subject is None else f"{stage}.{subject}",
        stage=stage,
        subject=subject,
        needs=needs,
        resource=_RESOURCE[stage],
        weight=weight,
    )
