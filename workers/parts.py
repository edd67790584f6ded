"""Keeps the finished parts of a running step elsewhere, so that another attempt goes on from them.

Uploads happen in a thread of their own: a large checkpoint must not delay a cancel.
"""

import queue
import threading
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError

from app.artifacts import repository
from app.artifacts.blobs import delete_unreferenced_blobs
from app.artifacts.kinds import ArtifactKind
from app.artifacts.manifest import check_relative_path
from app.artifacts.service import Origin, publish_folder
from app.db.fence import hold_step
from app.db.models import Artifact, ArtifactFile
from app.db.session import transaction
from app.jobs.service import ClaimedStep
from app.logs import get_logger
from app.storage.store import ObjectStore
from fusion.errors import FusionError
from fusion.failpoints import failpoint
from workers.lease import Lease
from workers.progress import LeaseLostError
from workers.settling import patiently

KEPT_TRAINING_CHECKPOINTS = 2

log = get_logger(__name__)


class PartPublisher:
    """Publishes parts in the order they were finished, while its `with` block runs."""

    def __init__(
        self, engine: Engine, store: ObjectStore, step: ClaimedStep, *, lease: Lease, out: Path
    ) -> None:
        self._engine = engine
        self._store = store
        self._step = step
        self._lease = lease
        self._out = out
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"parts-{step.step_id}", daemon=True)
        self._lost = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the parts that are finished, through outages of the database: none must be lost."""
        self._waiting.put(None)
        self._thread.join()

    @property
    def is_lost(self) -> bool:
        """Whether a part was not kept because the step belongs, or may belong, to somebody else."""
        return self._lost.is_set()

    def publish(self, path: str) -> None:
        """Keep the part at `path`, relative to the output folder, as soon as its turn comes."""
        self._waiting.put(check_relative_path(path))

    def _run(self) -> None:
        while (path := self._waiting.get()) is not None:
            if self._lost.is_set():
                continue
            try:
                patiently(partial(self._publish_now, path), lease=self._lease)
            except LeaseLostError:
                self._lost.set()
            except (FusionError, SQLAlchemyError, OSError) as error:
                # A part saves work, it is never needed: the stage may also have removed it in the meantime.
                log.warning("part_not_kept", step_id=self._step.step_id, path=path, error=str(error))

    def _publish_now(self, path: str) -> None:
        kept = publish_for(
            self._engine, self._store, self._step, self._out / path, kind=ArtifactKind.CHECKPOINT, role=path
        )
        failpoint("part.published")
        if kept is None:
            self._lost.set()
        elif self._step.stage == "train":
            drop_old_checkpoints(self._engine, self._store, self._step, keep=KEPT_TRAINING_CHECKPOINTS)


def publish_for(
    engine: Engine, store: ObjectStore, step: ClaimedStep, folder: Path, *, kind: ArtifactKind, role: str
) -> str | None:
    """Store a folder in the name of an attempt; None when the attempt no longer has its step."""
    return publish_folder(engine, store, folder, origin=origin_of(step, kind=kind, role=role))


def origin_of(step: ClaimedStep, *, kind: ArtifactKind, role: str) -> Origin:
    """What an attempt's artifact says of where it comes from."""
    return Origin(
        project_id=step.project_id,
        job_id=step.job_id,
        step_id=step.step_id,
        attempt=step.attempt,
        kind=kind,
        role=role,
    )


def drop_old_checkpoints(engine: Engine, store: ObjectStore, step: ClaimedStep, *, keep: int) -> None:
    """Remove all but the newest checkpoints of a running step, rows first and bytes afterwards."""
    with transaction(engine) as session:
        if not hold_step(session, step_id=step.step_id, attempt=step.attempt):
            return
        of_step = (Artifact.step_id == step.step_id, Artifact.kind == ArtifactKind.CHECKPOINT.value)
        newest_first = select(Artifact.id).where(*of_step).order_by(Artifact.id.desc())
        old = list(session.scalars(newest_first))[keep:]
        digests = set(
            session.scalars(select(ArtifactFile.sha256).where(ArtifactFile.artifact_id.in_(old))).all()
        )
        repository.remove_artifacts(session, old)
    failpoint("checkpoint.forgotten")
    if digests:
        with transaction(engine) as session:
            delete_unreferenced_blobs(session, store, digests, project_id=step.project_id)
