"""One round of garbage collection over everything that this process can reach."""

import time
from dataclasses import dataclass

from sqlalchemy import Engine

from app.artifacts.garbage import Garbage, drop_finished_parts, drop_purged_artifacts, sweep_blobs
from app.catalog.expiry import drop_abandoned_uploads, drop_expired_files
from app.catalog.leftovers import sweep_uploads
from app.idempotency import forget_old_keys
from app.jobs.retention import drop_old_logs, drop_old_metrics, drop_purged_histories
from app.logs import get_logger
from app.operations.workspaces import sweep_workspaces
from app.settings import Settings
from app.storage.store import ObjectStore
from app.webhooks.retention import forget_old_deliveries

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class GarbageReport:
    """What was deleted, or in a dry run would be."""

    found: tuple[Garbage, ...]
    seconds: float

    @property
    def num_bytes(self) -> int:
        return sum(item.num_bytes for item in self.found)


def collect_garbage(
    engine: Engine, store: ObjectStore, settings: Settings, *, dry_run: bool = False
) -> GarbageReport:
    """Delete what nothing needs any more. Safe at any time, and in several processes at once.

    Of workspaces it sees those of its own machine, which the workers there sweep as well.
    """
    started = time.monotonic()
    grace = settings.gc_grace_seconds
    parts = drop_finished_parts(
        engine, store, failed_kept_seconds=settings.failed_parts_kept_seconds, dry_run=dry_run
    )
    purged = drop_purged_artifacts(engine, store, dry_run=dry_run)
    expired = drop_expired_files(engine, store, dry_run=dry_run)
    unfinished = drop_abandoned_uploads(engine, store, dry_run=dry_run)
    blobs = sweep_blobs(engine, store, grace_seconds=grace, dry_run=dry_run)
    uploads = sweep_uploads(settings.uploads_dir, grace_seconds=grace, dry_run=dry_run)
    keys = Garbage(kind="idempotency key", num=forget_old_keys(engine, dry_run=dry_run), num_bytes=0)
    deliveries = Garbage(
        kind="webhook delivery", num=forget_old_deliveries(engine, dry_run=dry_run), num_bytes=0
    )
    abandoned = sweep_workspaces(engine, settings.workspaces_dir, dry_run=dry_run)
    workspaces = Garbage(
        kind="workspace", num=len(abandoned), num_bytes=sum(one.num_bytes for one in abandoned)
    )
    rows = (
        drop_old_logs(engine, kept_seconds=settings.logs_kept_seconds, dry_run=dry_run),
        drop_old_metrics(engine, kept_seconds=settings.metrics_kept_seconds, dry_run=dry_run),
        drop_purged_histories(engine, dry_run=dry_run),
    )
    found = (parts, purged, expired, unfinished, *blobs, uploads, keys, deliveries, workspaces, *rows)
    report = GarbageReport(found=found, seconds=time.monotonic() - started)
    if not dry_run and any(item.num for item in report.found):
        log.info("garbage_collected", num_bytes=report.num_bytes, found=report.found)
    return report
