"""Asking for the promotion of a checkpoint to a model, which is a matter of files.

The weights lie in the checkpoint as transformers loads them, so nothing is converted and nothing is copied:
only card, spec and manifest are written, and an artifact that refers to the same bytes. With it they stay,
also when the checkpoint goes. Before it becomes a model somebody reads them (`app.checkpoints.promoter`).
"""

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.accounts.service import Principal
from app.artifacts import repository as artifact_repository
from app.artifacts.blobs import require_blobs, store_and_record
from app.artifacts.kinds import ArtifactKind
from app.artifacts.manifest import MANIFEST_NAME, FolderManifest, ManifestFile
from app.artifacts.service import Origin, StoredFolder, new_artifact
from app.catalog.receiving import UPLOAD_PREFIX
from app.checkpoints.card import render_card
from app.checkpoints.repository import (
    MODEL_FOLDER,
    Checkpoint,
    PromotionStatus,
    find_checkpoint,
    find_promotion,
)
from app.db.base import db_time
from app.db.models import Artifact, Job, Promotion
from app.db.session import read_only
from app.errors import Conflict, NotFound
from app.jobs import repository as jobs_repository
from app.storage.store import ObjectMissing, ObjectStore, blob_key

_CARD_NAME, _SPEC_NAME = "README.md", "fusion_spec.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """What becomes of which checkpoint."""

    checkpoint: Checkpoint
    job: Job
    name: str
    files: tuple[ManifestFile, ...]
    """Of the model, without the `model/` before their paths."""


def get_checkpoint(session: Session, *, project_id: str, checkpoint_id: str) -> Checkpoint:
    """A checkpoint that is still there.

    Raises:
        NotFound: there is none; another project's is none either.
    """
    found = find_checkpoint(session, project_id=project_id, checkpoint_id=checkpoint_id)
    if found is None:
        raise _gone(checkpoint_id)
    return found


def get_promotion(session: Session, *, project_id: str, checkpoint_id: str) -> Promotion:
    """Where the promotion of a checkpoint stands, also when the checkpoint is gone by then.

    Raises:
        NotFound: nobody asked for one, or its model was deleted; another project's is none either.
    """
    found = find_promotion(session, project_id=project_id, checkpoint_id=checkpoint_id)
    if found is None:
        raise NotFound(
            f"no promotion of {checkpoint_id!r} was asked for in this project", code="promotion_not_found"
        )
    return found


def ask_promotion(
    engine: Engine,
    store: ObjectStore,
    *,
    checkpoint_id: str,
    name: str | None,
    principal: Principal,
    folder: Path,
) -> Promotion:
    """Queue the promotion of a checkpoint. Asked again it is the same one; one that failed begins anew.

    Args:
        name: of the model; job and step number when not given.
        folder: on the local disk, for what is written.

    Raises:
        NotFound: no such checkpoint, or no longer.
        Conflict: it holds no model.
    """
    project_id = principal.project_id
    with read_only(engine) as session:
        asked = _asked(session, project_id=project_id, checkpoint_id=checkpoint_id)
        if asked is not None:
            return asked
        plan = _plan(session, project_id=project_id, checkpoint_id=checkpoint_id, name=name)

    def record(session: Session, stored: StoredFolder) -> Promotion:
        jobs_repository.lock_job(session, plan.job.id)
        asked = _asked(session, project_id=project_id, checkpoint_id=checkpoint_id)
        if asked is not None:
            return asked
        require_blobs(session, store, stored.files, project_id=project_id)
        return _record(session, plan, stored, principal=principal)

    try:
        return store_and_record(
            engine, lambda: _store(store, plan, project_id=project_id, folder=folder), record
        )
    except ObjectMissing as error:
        raise _gone(checkpoint_id) from error


def _asked(session: Session, *, project_id: str, checkpoint_id: str) -> Promotion | None:
    """A promotion that was asked for and has not failed."""
    found = find_promotion(session, project_id=project_id, checkpoint_id=checkpoint_id)
    return None if found is None or found.status == PromotionStatus.FAILED else found


def _plan(session: Session, *, project_id: str, checkpoint_id: str, name: str | None) -> _Plan:
    checkpoint = get_checkpoint(session, project_id=project_id, checkpoint_id=checkpoint_id)
    if not checkpoint.is_promotable:
        raise Conflict(
            f"{checkpoint_id} holds weights for going on with its training, and no model",
            code="checkpoint_not_promotable",
        )
    job = session.scalars(select(Job).where(Job.id == checkpoint.step.job_id)).one()
    files = [
        ManifestFile(path=file.path.removeprefix(MODEL_FOLDER), size=file.num_bytes, sha256=file.sha256)
        for file in artifact_repository.files_of(session, checkpoint_id)
        if file.path.startswith(MODEL_FOLDER)
    ]
    given = name or f"{job.name}-step-{checkpoint.number}"
    return _Plan(checkpoint=checkpoint, job=job, name=given, files=tuple(files))


def _store(store: ObjectStore, plan: _Plan, *, project_id: str, folder: Path) -> StoredFolder:
    """Store card, spec and manifest; the rest is there."""
    card = render_card(plan.checkpoint, plan.job, name=plan.name).encode()
    written = [
        _put(store, _CARD_NAME, card, project_id=project_id, folder=folder),
        _put(store, _SPEC_NAME, _json(plan.job.spec), project_id=project_id, folder=folder),
    ]
    artifact = plan.checkpoint.artifact
    manifest = FolderManifest(
        format_version=1,
        kind="model",
        files=tuple(sorted([*plan.files, *written], key=lambda file: file.path)),
        meta={
            "name": plan.name,
            "spec_digest": plan.job.spec_digest,
            "job_id": plan.job.id,
            "checkpoint_id": artifact.id,
            "step": plan.checkpoint.number,
            "metrics": plan.checkpoint.metrics,
        },
    )
    data = _json(manifest.model_dump(mode="json"))
    described = _put(store, MANIFEST_NAME, data, project_id=project_id, folder=folder)
    return StoredFolder(manifest=manifest, files=(*manifest.files, described))


def _record(session: Session, plan: _Plan, stored: StoredFolder, *, principal: Principal) -> Promotion:
    checkpoint = plan.checkpoint.artifact
    assert checkpoint.attempt is not None, "an attempt wrote it"
    origin = Origin(
        project_id=principal.project_id,
        job_id=plan.job.id,
        step_id=plan.checkpoint.step.id,
        attempt=checkpoint.attempt,
        kind=ArtifactKind.MODEL,
        # A step has one artifact per kind and role.
        role=checkpoint.id,
    )
    artifact = _artifact_of(session, stored, origin=origin)
    promotion = session.get(Promotion, checkpoint.id)
    if promotion is None:
        promotion = Promotion(
            checkpoint_id=checkpoint.id, project_id=principal.project_id, job_id=plan.job.id
        )
        session.add(promotion)
    # The number of the attempt stays: who read for an earlier promotion has no say in this one.
    promotion.artifact_id = artifact.id
    promotion.name = plan.name
    promotion.status = PromotionStatus.QUEUED
    promotion.num_bytes = artifact.num_bytes
    promotion.num_bytes_read = 0
    promotion.leased_until = promotion.model_id = promotion.error = promotion.finished_at = None
    promotion.created_by = principal.key_id
    promotion.created_at = db_time()
    session.flush()
    session.refresh(promotion)
    return promotion


def _artifact_of(session: Session, stored: StoredFolder, *, origin: Origin) -> Artifact:
    """The artifact of an earlier promotion whose model was deleted, when it is the same; else a new one."""
    earlier = artifact_repository.artifacts_of_role(
        session, step_id=origin.step_id, kind=origin.kind, role=origin.role
    )
    for artifact in earlier:
        if artifact.digest == stored.manifest.digest:
            return artifact
    artifact_repository.remove_artifacts(session, [artifact.id for artifact in earlier])
    return new_artifact(session, stored, origin=origin)


def _put(store: ObjectStore, path: str, data: bytes, *, project_id: str, folder: Path) -> ManifestFile:
    folder.mkdir(parents=True, exist_ok=True)
    # The prefix is what the housekeeper removes after a crash.
    descriptor, name = tempfile.mkstemp(prefix=UPLOAD_PREFIX, dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        sha256 = hashlib.sha256(data).hexdigest()
        store.put_file(blob_key(project_id=project_id, sha256=sha256), Path(name), sha256=sha256)
    finally:
        Path(name).unlink(missing_ok=True)
    return ManifestFile(path=path, size=len(data), sha256=sha256)


def _json(value: Any) -> bytes:
    """As the engine writes JSON: equal values are equal bytes."""
    return (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()


def _gone(checkpoint_id: str) -> NotFound:
    return NotFound(
        f"there is no checkpoint {checkpoint_id!r} in this project, or no longer", code="checkpoint_not_found"
    )
