"""What finished steps took, and what that says of steps to come.

A step's time is scaled by its work (bytes read, windows trained on) and, for another model, by the number of
parameters, where both are known. Starting a stage takes a while whatever the work, and that is not scaled.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.models import Attempt, Job, Step
from app.jobs.lifecycle import JobStatus, StepStatus
from app.jobs.workload import (
    MODEL_BOUND,
    Json,
    label_of_model,
    model_of_step,
    parameters_in_figures,
    size_in_figures,
    work_of_step,
)

NUM_EARLIER_JOBS: Final = 20
_STARTUP_SECONDS: Final = 5.0
"""Of a stage that does not say how much of its time went into work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A step as far as its time depends on it. `model`: the checkpoint that it runs or trains, if one."""

    job_id: str | None
    stage: str
    model: str | None
    work: float | None
    num_parameters: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A finished step: its task, and the seconds of all its attempts, of which so many are not scaled."""

    task: Task
    seconds: float
    startup_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """Seconds of a step to come, from so many finished ones; `is_same_model` if they ran the same one."""

    seconds: float
    low: float
    high: float
    num_measured: int
    is_same_model: bool


def expected_seconds(task: Task, measured: Iterable[Measured]) -> Expected | None:
    """What comparable steps make of a task; None where there is none.

    Steps with the same model count for more than those of the same job, and those for more than others.
    """
    fitting = [one for one in measured if one.task.stage == task.stage]
    same_model = [one for one in fitting if one.task.model == task.model]
    same_job = [one for one in fitting if task.job_id is not None and one.task.job_id == task.job_id]
    chosen = same_model or same_job or fitting
    if not chosen:
        return None
    scaled = [_scaled(one, task) for one in chosen]
    return Expected(
        seconds=median(scaled),
        low=min(scaled),
        high=max(scaled),
        num_measured=len(scaled),
        is_same_model=bool(same_model),
    )


def tasks_of(
    spec: Json, steps: Sequence[Step], *, job_id: str | None, prepared: Json | None
) -> dict[str, Task]:
    """The task behind every step of a job, by the step's name. `prepared`: figures of its `prepare`."""
    return {step.name: task_of(spec, step.stage, step.subject, job_id, prepared) for step in steps}


def task_of(spec: Json, stage: str, subject: str | None, job_id: str | None, prepared: Json | None) -> Task:
    """The task behind one step."""
    name = model_of_step(spec, stage=stage, subject=subject)
    return Task(
        job_id=job_id,
        stage=stage,
        model=label_of_model(spec, name),
        work=work_of_step(spec, stage=stage, size=size_in_figures(prepared)),
        num_parameters=parameters_in_figures(prepared).get(name) if name is not None else None,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The last jobs of a project that succeeded, the newest first: specs, steps, and what they tell."""

    specs: dict[str, Any]
    steps: dict[str, list[Step]]
    measured: list[Measured]


_HISTORIES: Final[dict[str, History]] = {}
"""The last history of some projects. What has succeeded does not change any more."""
_NUM_HISTORIES: Final = 64


def earlier_measurements(session: Session, *, project_id: str) -> list[Measured]:
    """Finished steps of the project's last jobs that succeeded."""
    return read_history(session, project_id=project_id).measured


def read_history(session: Session, *, project_id: str) -> History:
    """What the last jobs of a project have gone through, the newest first. Read again when it is news."""
    query = (
        select(Job.id)
        .where(Job.project_id == project_id, Job.status == JobStatus.SUCCEEDED, Job.deleted_at.is_(None))
        .order_by(Job.id.desc())
        .limit(NUM_EARLIER_JOBS)
    )
    job_ids = list(session.scalars(query))
    kept = _HISTORIES.pop(project_id, None)
    history = kept if kept is not None and list(kept.specs) == job_ids else _read_jobs(session, job_ids)
    _HISTORIES[project_id] = history
    while len(_HISTORIES) > _NUM_HISTORIES:
        _HISTORIES.pop(next(iter(_HISTORIES)), None)
    return history


def _read_jobs(session: Session, job_ids: Sequence[str]) -> History:
    if not job_ids:
        return History(specs={}, steps={}, measured=[])
    found = {row.id: row.spec for row in session.execute(select(Job.id, Job.spec).where(Job.id.in_(job_ids)))}
    steps: dict[str, list[Step]] = defaultdict(list)
    for step in session.scalars(select(Step).where(Step.job_id.in_(job_ids))):
        # It outlives the session, and the session's failure.
        session.expunge(step)
        steps[step.job_id].append(step)
    seconds = seconds_of_steps(session, job_ids)
    return History(
        specs={job_id: found[job_id] for job_id in job_ids},
        steps=steps,
        measured=[one for job_id in job_ids for one in measured_steps(found[job_id], steps[job_id], seconds)],
    )


def measured_steps(spec: Json, steps: Sequence[Step], seconds: dict[str, float]) -> list[Measured]:
    """What the finished steps of one job tell. `seconds` by step id, as `seconds_of_steps` finds them."""
    if not spec:
        return []
    prepared = figures_of_prepare(steps)
    found = []
    for step in steps:
        if step.status == StepStatus.SUCCEEDED and step.id in seconds:
            one = _measured(spec, step, seconds[step.id], prepared)
            found += [] if one is None else [one]
    return found


def figures_of_prepare(steps: Sequence[Step]) -> Json | None:
    """What the first step found out about text and models, once it has."""
    return next((step.figures for step in steps if step.stage == "prepare" and step.figures), None)


def seconds_of_steps(session: Session, job_ids: Collection[str]) -> dict[str, float]:
    """Seconds that workers spent on each step of these jobs, over all attempts that are over."""
    spent: dict[str, float] = defaultdict(float)
    query = select(Attempt.step_id, Attempt.started_at, Attempt.ended_at).where(Attempt.job_id.in_(job_ids))
    for row in session.execute(query):
        spent[row.step_id] += seconds_between(row.started_at, row.ended_at)
    return dict(spent)


def seconds_between(start: datetime, end: datetime | None) -> float:
    """Seconds between two times of the database; 0 while the second is not there."""
    return 0.0 if end is None else max(0.0, (end - start).total_seconds())


def _measured(spec: Json, step: Step, seconds: float, prepared: Json | None) -> Measured | None:
    """None for an extraction that the cache answered: it says nothing about running the model."""
    figures = step.figures or {}
    working = min(seconds, float(figures.get("seconds", max(0.0, seconds - _STARTUP_SECONDS))))
    startup = seconds - working
    if step.stage == "extract" and figures.get("tokens"):
        run = 1.0 - figures.get("cached_tokens", 0) / figures["tokens"]
        if run < 0.05:
            return None
        working /= run
    task = task_of(spec, step.stage, step.subject, step.job_id, prepared)
    return Measured(task=task, seconds=startup + working, startup_seconds=startup)


def _scaled(one: Measured, task: Task) -> float:
    """Seconds of a measured step, if it had had this task's work and model."""
    ratio = _ratio(task.work, one.task.work)
    if task.stage in MODEL_BOUND and task.model != one.task.model:
        ratio *= _ratio(task.num_parameters, one.task.num_parameters)
    return one.startup_seconds + (one.seconds - one.startup_seconds) * ratio


def _ratio(wanted: float | None, measured: float | None) -> float:
    """1 where either is unknown."""
    return wanted / measured if wanted is not None and measured else 1.0
