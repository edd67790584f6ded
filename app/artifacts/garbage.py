"""Deletes what nothing refers to any more: blobs without a row, halves of uploads, parts that are done with.

Nothing here can lose a byte that a row names: a blob is deleted only while its project's row is locked and no
row refers to it, and whoever stores the same bytes at that moment stores them again
(`blobs.store_and_record`). The grace period only saves running uploads that second try.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Engine, Select, and_, exists, or_, select
from sqlalchemy.orm import Session

from app.artifacts import repository
from app.artifacts.blobs import delete_unreferenced_blobs, referenced_digests
from app.artifacts.kinds import ArtifactKind
from app.db.base import db_time
from app.db.models import Artifact, ArtifactFile, Job, Model, Promotion, Step
from app.db.session import read_only, transaction
from app.storage.store import BLOBS, ObjectStore, StoredObject

_BLOB: Final = re.compile(rf"{BLOBS}/([^/]+)/[0-9a-f]{{2}}/([0-9a-f]{{64}})")
_PARTIAL: Final = re.compile(rf"{BLOBS}/[^/]+/[0-9a-f]{{2}}/\.[0-9a-f]{{32}}\.partial")
_HALVES_KEPT_SECONDS: Final = 3600.0
"""Whatever the grace period: to take the half of a running upload away is to fail it."""
_ARTIFACTS_AT_ONCE: Final = 50
# Whether a step still needs its parts is told by states that belong to app.jobs.
_SUCCEEDED: Final = "succeeded"
_FINISHED: Final = ("succeeded", "failed", "cancelled")
# And whether a promotion waits or is under way, by states that belong to app.checkpoints.
_UNFINISHED_PROMOTION: Final = ("queued", "running")


@dataclass(frozen=True, kw_only=True, slots=True)
class Garbage:
    """How much of one kind was deleted, or in a dry run would be."""

    kind: str
    num: int
    num_bytes: int


def sweep_blobs(
    engine: Engine, store: ObjectStore, *, grace_seconds: float, dry_run: bool = False
) -> list[Garbage]:
    """Delete blobs that no row refers to, and halves of blobs, once they are older than the grace period.

    Blobs of projects that this database does not know are left alone: another service may own them.
    """
    now = datetime.now(UTC)
    oldest_kept = now - timedelta(seconds=grace_seconds)
    oldest_half_kept = now - timedelta(seconds=max(grace_seconds, _HALVES_KEPT_SECONDS))
    blobs: list[StoredObject] = []
    halves: list[StoredObject] = []
    for page in store.list_objects(BLOBS):
        old = [item for item in page if item.modified_at <= oldest_kept]
        halves += [
            item for item in old if item.modified_at <= oldest_half_kept and _PARTIAL.fullmatch(item.key)
        ]
        for project_id, of_project in _by_project(old).items():
            blobs += _sweep_project(engine, store, of_project, project_id=project_id, dry_run=dry_run)
    if not dry_run:
        store.delete(*(item.key for item in halves))
    return [_garbage("blob", blobs), _garbage("half of a blob", halves)]


def drop_finished_parts(
    engine: Engine, store: ObjectStore, *, failed_kept_seconds: float, dry_run: bool = False
) -> Garbage:
    """Forget checkpoints and other parts of steps that succeeded, or whose job ended long enough ago.

    Until then a retry continues from them.
    """
    unneeded = _unneeded_parts(failed_kept_seconds)
    # The rows of job and step stay locked, so that no retry takes them up again meanwhile.
    locked = unneeded.with_for_update(of=(Job, Step), key_share=True, skip_locked=True)
    return _drop(engine, store, unneeded if dry_run else locked, kind="part", dry_run=dry_run)


def drop_purged_artifacts(
    engine: Engine, store: ObjectStore, *, job_id: str | None = None, dry_run: bool = False
) -> Garbage:
    """Forget what jobs left that were removed for good, or one of them; what is a model, or about to become
    one, stays."""
    is_model = exists().where(Model.artifact_id == Artifact.id)
    becomes_model = exists().where(
        Promotion.artifact_id == Artifact.id, Promotion.status.in_(_UNFINISHED_PROMOTION)
    )
    unneeded = (
        select(Artifact)
        .join(Job, Job.id == Artifact.job_id)
        .where(Job.purged_at.is_not(None), ~is_model, ~becomes_model)
        .order_by(Artifact.id)
    )
    if job_id is not None:
        unneeded = unneeded.where(Job.id == job_id)
    locked = unneeded.with_for_update(of=Artifact, skip_locked=True)
    kind = "artifact of a purged job"
    return _drop(engine, store, unneeded if dry_run else locked, kind=kind, dry_run=dry_run)


def _drop(
    engine: Engine, store: ObjectStore, unneeded: Select[Artifact], *, kind: str, dry_run: bool
) -> Garbage:
    """Remove the rows of artifacts, some at a time, and the bytes that only they referred to."""
    if dry_run:
        with read_only(engine) as session:
            found = list(session.scalars(unneeded))
            return Garbage(kind=kind, num=len(found), num_bytes=_num_bytes_freed(session, found))
    num = num_bytes = 0
    while True:
        with transaction(engine) as session:
            found = list(session.scalars(unneeded.limit(_ARTIFACTS_AT_ONCE)))
            ids = [artifact.id for artifact in found]
            sizes = _sizes(session, ids)
            repository.remove_artifacts(session, ids)
        if not found:
            return Garbage(kind=kind, num=num, num_bytes=num_bytes)
        num += len(found)
        for project_id, by_digest in sizes.items():
            with transaction(engine) as session:
                deleted = delete_unreferenced_blobs(session, store, by_digest, project_id=project_id)
            num_bytes += sum(by_digest[digest] for digest in deleted)


def _by_project(objects: Iterable[StoredObject]) -> dict[str, dict[str, StoredObject]]:
    """Blobs by project and digest; what does not look like one is none of ours."""
    found: dict[str, dict[str, StoredObject]] = defaultdict(dict)
    for item in objects:
        if match := _BLOB.fullmatch(item.key):
            found[match[1]][match[2]] = item
    return found


def _sweep_project(
    engine: Engine, store: ObjectStore, found: dict[str, StoredObject], *, project_id: str, dry_run: bool
) -> list[StoredObject]:
    with read_only(engine) as session:
        if not repository.is_project(session, project_id):
            return []
        unreferenced = found.keys() - referenced_digests(session, found.keys(), project_id=project_id)
    if unreferenced and not dry_run:
        # Asked again under the lock: a row may have come to refer to one of them since.
        with transaction(engine) as session:
            unreferenced = delete_unreferenced_blobs(session, store, unreferenced, project_id=project_id)
    return [found[digest] for digest in unreferenced]


def _unneeded_parts(failed_kept_seconds: float) -> Select[Artifact]:
    ended = and_(Job.status.in_(_FINISHED), Job.finished_at < db_time(-failed_kept_seconds))
    return (
        select(Artifact)
        .join(Step, Step.id == Artifact.step_id)
        .join(Job, Job.id == Step.job_id)
        .where(Artifact.kind == ArtifactKind.CHECKPOINT.value, or_(Step.status == _SUCCEEDED, ended))
        .order_by(Artifact.id)
    )


def _sizes(session: Session, artifact_ids: list[str]) -> dict[str, dict[str, int]]:
    """Bytes of every blob of the artifacts, by project and digest."""
    sizes: dict[str, dict[str, int]] = defaultdict(dict)
    query = select(ArtifactFile).where(ArtifactFile.artifact_id.in_(artifact_ids))
    for file in session.scalars(query):
        sizes[file.project_id][file.sha256] = file.num_bytes
    return sizes


def _num_bytes_freed(session: Session, parts: list[Artifact]) -> int:
    """Bytes of the blobs that only these artifacts refer to."""
    ids = [part.id for part in parts]
    total = 0
    for project_id, by_digest in _sizes(session, ids).items():
        kept = referenced_digests(session, by_digest, project_id=project_id, besides=ids)
        total += sum(by_digest[digest] for digest in by_digest.keys() - kept)
    return total


def _garbage(kind: str, objects: list[StoredObject]) -> Garbage:
    return Garbage(kind=kind, num=len(objects), num_bytes=sum(item.num_bytes for item in objects))
