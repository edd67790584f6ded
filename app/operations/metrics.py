"""What Prometheus is told of the whole service: counts out of the database, and no id in any label.

Nothing is counted in a process, so every process of the API tells the same, and a restart loses nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.checkpoints.repository import PromotionStatus
from app.db.base import db_time
from app.db.models import (
    Artifact,
    Attempt,
    File,
    Job,
    OutboxMessage,
    Promotion,
    Publication,
    UploadPart,
    WebhookDelivery,
    Worker,
)
from app.jobs.lifecycle import AttemptOutcome, JobStatus
from app.operations.fleet import Queue, list_queues
from app.publications.repository import UNFINISHED
from app.webhooks.types import DeliveryStatus


def exposition(session: Session, *, obstacles: Mapping[str, str | None], live: Sequence[Worker]) -> bytes:
    """The text that Prometheus reads.

    Args:
        session: sees every project.
        obstacles: what stands in the way of readiness, by name of the check.
        live: the workers that were heard of lately.
    """
    registry = CollectorRegistry()
    registry.register(_Told([*_health(obstacles), *_work(session, live), *_rest(session)]))
    return generate_latest(registry)


class _Told(Collector):
    """Families that are made already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _health(obstacles: Mapping[str, str | None]) -> Iterator[Metric]:
    build = GaugeMetricFamily("fusion_build_info", "1; the label tells the release.", labels=["version"])
    build.add_metric([version("fusion-service")], 1)
    yield build
    checks = {name: int(detail is None) for name, detail in obstacles.items()}
    yield _gauge("fusion_ready", "Checks of /readyz: 1 is green.", "check", checks)


def _work(session: Session, live: Sequence[Worker]) -> Iterator[Metric]:
    jobs = _counts(session, Job.status, Job.deleted_at.is_(None))
    yield _gauge("fusion_jobs", "Jobs by status.", "status", _filled(jobs, JobStatus))
    queues = list_queues(session, project_id="", live=live)
    steps = GaugeMetricFamily(
        "fusion_steps", "Steps that wait or run, by queue and state.", labels=["queue", "state"]
    )
    workers = GaugeMetricFamily(
        "fusion_workers",
        "Live workers, by what they take and whether they have work.",
        labels=["queue", "state"],
    )
    for queue in queues:
        for state, num in _states(queue).items():
            steps.add_metric([queue.resource, state], num)
        workers.add_metric([queue.resource, "idle"], queue.num_idle_workers)
        workers.add_metric([queue.resource, "busy"], queue.num_live_workers - queue.num_idle_workers)
    yield from (steps, workers)
    waited = {queue.resource: _seconds_since(queue.oldest_ready_at) for queue in queues}
    yield _gauge(
        "fusion_oldest_step_seconds", "Age of the claimable step that waits longest.", "queue", waited
    )
    attempts = CounterMetricFamily(
        "fusion_attempts_ended", "Attempts at steps that have ended, by outcome.", labels=["outcome"]
    )
    ended = _counts(session, Attempt.outcome, Attempt.outcome != AttemptOutcome.RUNNING)
    outcomes = [outcome for outcome in AttemptOutcome if outcome is not AttemptOutcome.RUNNING]
    for outcome, num in _filled(ended, outcomes).items():
        attempts.add_metric([outcome], num)
    yield attempts


def _rest(session: Session) -> Iterator[Metric]:
    due = (WebhookDelivery.status == DeliveryStatus.PENDING, WebhookDelivery.due_at <= db_time())
    waiting = {
        "ring": _num(session, OutboxMessage.id),
        "webhook": _num(session, WebhookDelivery.id, *due),
        "promotion": _num(
            session,
            Promotion.checkpoint_id,
            Promotion.status.in_((PromotionStatus.QUEUED, PromotionStatus.RUNNING)),
        ),
        "publication": _num(session, Publication.id, Publication.status.in_(UNFINISHED)),
    }
    yield _gauge("fusion_housekeeping", "What waits for whoever keeps house.", "kind", waiting)
    sums = {
        name: session.scalar(select(func.coalesce(func.sum(column), 0))) or 0
        for name, column in (
            ("artifact", Artifact.num_bytes),
            ("file", File.num_bytes),
            ("upload", UploadPart.num_bytes),
        )
    }
    yield _gauge("fusion_stored_bytes", "Bytes that rows name; equal ones count as often.", "kind", sums)


def _states(queue: Queue) -> dict[str, int]:
    return {
        "claimable": queue.depth,
        "delayed": queue.num_delayed,
        "held": queue.num_held,
        "running": queue.num_running,
    }


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value_of_label, value in values.items():
        family.add_metric([value_of_label], value)
    return family


def _counts(session: Session, column: InstrumentedAttribute[str], *conditions: Any) -> dict[str, int]:
    query = select(column, func.count()).where(*conditions).group_by(column)
    return {row[0]: row[1] for row in session.execute(query)}


def _filled(counts: Mapping[str, int], names: Iterable[str]) -> dict[str, int]:
    """A number for each, also for those of which there are none: an alert needs a 0."""
    return {str(name): counts.get(name, 0) for name in names}


def _num(session: Session, column: InstrumentedAttribute[Any], *conditions: Any) -> int:
    return session.scalar(select(func.count(column)).where(*conditions)) or 0


def _seconds_since(moment: datetime | None) -> float:
    return 0.0 if moment is None else max(0.0, (datetime.now(UTC) - moment).total_seconds())
