"""Training curves as columns, thinned out in the database: a million points never come here.

A resumed attempt goes on from an earlier step than the last one reached. What the attempt before had written
above that is superseded, and left out from then on.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Float,
    and_,
    cast,
    false,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.orm import Session

from app.db.models import MetricPoint

Axis = Literal["step", "time", "tokens"]
TOKENS: Final = "tokens"
"""The value of a point that says how many tokens were trained on up to it."""
_ROWS_AT_ONCE: Final = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """Which points are asked for. `keys`: names `STEP/VALUE` with `*` for any letters; all when empty."""

    keys: Sequence[str] = ()
    step: str | None = None
    since: int = 0
    """Only points written after the one with this number."""
    since_step: int = -1
    """Only points of later optimiser steps."""

    def wants(self, key: str) -> bool:
        """Whether a series is asked for."""
        return not self.keys or any(_pattern(pattern).fullmatch(key) for pattern in self.keys)

    def may_want(self, step_name: str) -> bool:
        """Whether a series of the step can be one that is asked for."""
        beginning = f"{step_name}/"
        fixed = [(key.partition("*")[0], "*" in key) for key in self.keys]
        return not self.keys or any(
            part.startswith(beginning) or (is_pattern and beginning.startswith(part))
            for part, is_pattern in fixed
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Boundary:
    """Where an attempt's part of a curve begins."""

    attempt: int
    first_step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One curve. Lists are as long as `x`; `None` in `y` stands for a number that was not finite."""

    steps: list[int] = field(default_factory=list)
    x: list[int | float | None] = field(default_factory=list)
    y: list[float | None] = field(default_factory=list)
    low: list[float | None] = field(default_factory=list)
    high: list[float | None] = field(default_factory=list)
    nonfinite: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bucket:
    key: str
    num: int
    num_finite: int
    low: float | None
    high: float | None
    end: int
    """The last optimiser step of it, whose value is shown."""


def boundaries_of(session: Session, step_id: str) -> list[Boundary]:
    """Where the attempts of a step begin in its curve, those that are superseded whole left out."""
    query = (
        select(MetricPoint.attempt, func.min(MetricPoint.metric_step))
        .where(MetricPoint.step_id == step_id)
        .group_by(MetricPoint.attempt)
        .order_by(MetricPoint.attempt.desc())
    )
    found: list[Boundary] = []
    for attempt, first_step in session.execute(query):
        if not found or first_step < found[-1].first_step:
            found.append(Boundary(attempt=attempt, first_step=first_step))
    return found[::-1]


def counting(step_id: str, boundaries: Sequence[Boundary], cut: Cut) -> ColumnElement[bool]:
    """The points of a step that are asked for and not superseded."""
    ends = [*(later.first_step for later in boundaries[1:]), None][: len(boundaries)]
    parts = [
        and_(MetricPoint.attempt == part.attempt, true() if end is None else MetricPoint.metric_step < end)
        for part, end in zip(boundaries, ends, strict=True)
    ]
    return and_(
        MetricPoint.step_id == step_id,
        MetricPoint.seq > cut.since,
        MetricPoint.metric_step > cut.since_step,
        or_(false(), *parts),
    )


def read_series(
    session: Session, *, step_id: str, step_name: str, cut: Cut, axis: Axis, max_points: int
) -> tuple[dict[str, Series], list[Boundary]]:
    """The curves of one step by `STEP/VALUE`, each with at most `max_points` points."""
    if not cut.may_want(step_name):
        return {}, []
    boundaries = boundaries_of(session, step_id)
    condition = counting(step_id, boundaries, cut)
    buckets = [
        bucket
        for bucket in _buckets(session, condition, step_name=step_name, cut=cut, max_points=max_points)
        if cut.wants(bucket.key)
    ]
    ends = _rows(session, condition, {bucket.end for bucket in buckets})
    series: dict[str, Series] = defaultdict(Series)
    for bucket in buckets:
        values, created_at = ends[bucket.end]
        one = series[bucket.key]
        if bucket.num_finite < bucket.num:
            one.nonfinite.append(len(one.x))
        one.steps.append(bucket.end)
        one.x.append(_place(axis, bucket.end, values, created_at))
        one.y.append(values.get(bucket.key.removeprefix(f"{step_name}/")))
        one.low.append(bucket.low)
        one.high.append(bucket.high)
        one.counts.append(bucket.num)
    return series, boundaries


def _buckets(
    session: Session, condition: ColumnElement[bool], *, step_name: str, cut: Cut, max_points: int
) -> list[_Bucket]:
    """What is in each of at most `max_points` equal parts of the steps, by name of the value."""
    columns = (func.count(), func.min(MetricPoint.metric_step), func.max(MetricPoint.metric_step))
    num_points, first, last = session.execute(select(*columns).where(condition)).one()
    if not num_points:
        return []
    offset = cast(MetricPoint.metric_step - first, BigInteger)
    part = offset if num_points <= max_points else offset * max_points // (last - first + 1)
    each = func.json_each if session.get_bind().dialect.name == "sqlite" else func.jsonb_each_text
    entries = each(MetricPoint.values).table_valued("key", "value", name="entries")
    value = cast(entries.c.value, Float)
    query = (
        select(
            entries.c.key,
            func.count(),
            func.count(value),
            func.min(value),
            func.max(value),
            func.max(MetricPoint.metric_step).label("end"),
        )
        .select_from(MetricPoint)
        .join(entries, true())
        .where(condition, _of_names(entries.c.key, cut, step_name=step_name))
        .group_by(entries.c.key, part)
        .order_by(entries.c.key, "end")
    )
    return [
        _Bucket(key=f"{step_name}/{key}", num=num, num_finite=num_finite, low=low, high=high, end=end)
        for key, num, num_finite, low, high, end in session.execute(query)
    ]


def _of_names(name: ColumnElement[str], cut: Cut, *, step_name: str) -> ColumnElement[bool]:
    """Which values may be asked for, so that others are not grouped, which takes longer than to read them.

    It lets a few more through: LIKE knows no case on SQLite.
    """
    if not cut.keys:
        return true()
    exact = {key.removeprefix(f"{step_name}/") for key in cut.keys if "*" not in key}
    key = literal(f"{step_name}/") + name
    patterns = [key.like(_like(pattern), escape="!") for pattern in cut.keys if "*" in pattern]
    return or_(name.in_(exact), *patterns)


def _like(pattern: str) -> str:
    return re.sub(r"\*+", "%", re.sub(r"([%_!])", r"!\1", pattern))


def _rows(
    session: Session, condition: ColumnElement[bool], metric_steps: Collection[int]
) -> Mapping[int, tuple[dict[str, Any], datetime]]:
    """Values and time of some points by their optimiser step."""
    wanted = sorted(metric_steps)
    found = {}
    for first in range(0, len(wanted), _ROWS_AT_ONCE):
        some = wanted[first : first + _ROWS_AT_ONCE]
        columns = (MetricPoint.metric_step, MetricPoint.values, MetricPoint.created_at)
        for row in session.execute(select(*columns).where(condition, MetricPoint.metric_step.in_(some))):
            found[row[0]] = (row[1], row[2])
    return found


def _place(
    axis: Axis, metric_step: int, values: Mapping[str, Any], created_at: datetime
) -> int | float | None:
    match axis:
        case "step":
            return metric_step
        case "time":
            return created_at.timestamp()
        case "tokens":
            return values.get(TOKENS)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in text.split("*")))
