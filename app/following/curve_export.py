"""Every point of a job's curves as CSV or as JSON lines, a page of rows in memory at a time."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Literal

from sqlalchemy import Engine, select

from app.db.base import unix_seconds
from app.db.models import MetricPoint
from app.db.session import read_only
from app.following.curves import Cut, boundaries_of, counting

ExportFormat = Literal["csv", "ndjson"]
MEDIA_TYPES: dict[ExportFormat, str] = {"csv": "text/csv", "ndjson": "application/x-ndjson"}
_ROWS_AT_ONCE = 2000
_COLUMNS = ("step_name", "step", "attempt", "created_at", "name", "value")


def export_points(
    engine: Engine, steps: dict[str, str], *, cut: Cut, export_format: ExportFormat
) -> Iterator[str]:
    """Pieces of the file. Each page is a transaction of its own: a slow reader holds no connection."""
    write = _as_csv if export_format == "csv" else _as_json_lines
    yield ",".join(_COLUMNS) + "\r\n" if export_format == "csv" else ""
    for step_id, step_name in steps.items():
        if not cut.may_want(step_name):
            continue
        after = cut.since_step
        while points := _page(engine, step_id, cut=cut, after=after):
            after = points[-1].metric_step
            yield write(step_name, points, cut)


def _page(engine: Engine, step_id: str, *, cut: Cut, after: int) -> list[MetricPoint]:
    with read_only(engine) as session:
        condition = counting(step_id, boundaries_of(session, step_id), cut)
        query = select(MetricPoint).where(condition, MetricPoint.metric_step > after)
        return list(session.scalars(query.order_by(MetricPoint.metric_step).limit(_ROWS_AT_ONCE)))


def _as_csv(step_name: str, points: list[MetricPoint], cut: Cut) -> str:
    text = io.StringIO()
    rows = csv.writer(text)
    for point in points:
        same = (step_name, point.metric_step, point.attempt, unix_seconds(point.created_at))
        rows.writerows((*same, name, value) for name, value in _values(step_name, point, cut).items())
    return text.getvalue()


def _as_json_lines(step_name: str, points: list[MetricPoint], cut: Cut) -> str:
    lines = []
    for point in points:
        if values := _values(step_name, point, cut):
            line = {
                "seq": point.seq,
                "step_name": step_name,
                "step": point.metric_step,
                "attempt": point.attempt,
                "created_at": unix_seconds(point.created_at),
                "values": values,
            }
            lines.append(json.dumps(line) + "\n")
    return "".join(lines)


def _values(step_name: str, point: MetricPoint, cut: Cut) -> dict[str, float | None]:
    return {name: value for name, value in point.values.items() if cut.wants(f"{step_name}/{name}")}
