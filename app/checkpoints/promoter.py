"""Makes models of the checkpoints whose promotion waits: one at a time, wherever somebody keeps house.

Every byte is read once before, because a model that is made now should not turn out broken at its first
download. A process that reads holds the promotion by a lease that it renews; whoever comes after a crash
begins again, and the number of the attempt keeps the one before from having a say.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from sqlalchemy import ColumnElement, Engine, Select, and_, exists, or_, select, update
from sqlalchemy.orm import Session

from app.artifacts import repository as artifact_repository
from app.checkpoints.repository import PromotionStatus, find_promoted, meta_of
from app.db.base import db_time
from app.db.models import Artifact, ArtifactFile, Model, Promotion
from app.db.session import in_transaction, read_only, transaction
from app.hints import HINT_OF_CODE
from app.jobs import repository as jobs_repository
from app.logs import get_logger
from app.storage.digests import pieces_sha256
from app.storage.store import ObjectDamaged, ObjectMissing, ObjectStore, blob_key
from fusion.failpoints import failpoint

LEASE_SECONDS: Final = 60.0
_RENEW_SECONDS: Final = 5.0

log = get_logger(__name__)


class _Interrupted(Exception):
    """This process is about to end."""


class _Lost(Exception):
    """Somebody else has the promotion by now."""


class _Refused(Exception):
    """No model can be made."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.told = {"code": code, "message": message, "hint": HINT_OF_CODE[code]}


class Promoter:
    """Works off the promotions that wait."""

    def __init__(self, engine: Engine, store: ObjectStore, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._engine = engine
        self._store = store
        self._lease_seconds = lease_seconds
        self._stopping = threading.Event()
        self._renewed_at = 0.0

    def interrupt(self) -> None:
        """Give up what is under way; whoever comes next begins it again."""
        self._stopping.set()

    def run_once(self) -> int:
        """Promote every checkpoint that waits for it; of how many it is known now what became of them."""
        num_finished = 0
        while not self._stopping.is_set() and (promotion := self._claim()) is not None:
            try:
                self._promote(promotion)
            except _Interrupted:
                with suppress(_Lost):
                    in_transaction(self._engine, _release, promotion)
                break
            except _Lost:
                log.warning("promotion_lost", checkpoint_id=promotion.checkpoint_id)
                continue
            num_finished += 1
        return num_finished

    def _claim(self) -> Promotion | None:
        """The promotion that waits for longest, now ours; nothing is written while none waits."""
        with read_only(self._engine) as session:
            if session.scalar(_waiting()) is None:
                return None
        self._renewed_at = time.monotonic()
        with transaction(self._engine) as session:
            found = session.scalar(_waiting().with_for_update(skip_locked=True))
            if found is not None:
                found.status = PromotionStatus.RUNNING
                found.attempt += 1
                found.num_bytes_read = 0
                found.leased_until = db_time(self._lease_seconds)
        return found

    def _promote(self, promotion: Promotion) -> None:
        try:
            self._check_bytes(promotion)
            failpoint("promotion.read")
            model_id = in_transaction(self._engine, _succeed, promotion)
        except _Refused as refusal:
            in_transaction(self._engine, _fail, promotion, refusal)
            log.warning("promotion_failed", checkpoint_id=promotion.checkpoint_id, **refusal.told)
        else:
            log.info("checkpoint_promoted", checkpoint_id=promotion.checkpoint_id, model_id=model_id)

    def _check_bytes(self, promotion: Promotion) -> None:
        with read_only(self._engine) as session:
            files = artifact_repository.files_of(session, promotion.artifact_id)
        for file in files:
            key = blob_key(project_id=file.project_id, sha256=file.sha256)
            pieces = self._store.open_range(key, start=0, end=file.num_bytes)
            try:
                found = pieces_sha256(self._holding(promotion, pieces))
            except (ObjectMissing, ObjectDamaged) as error:
                raise _damaged(promotion, file, error.message) from error
            if found != file.sha256:
                raise _damaged(promotion, file, f"it has sha256 {found}, expected {file.sha256}")

    def _holding(self, promotion: Promotion, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces, while the lease is renewed and the bytes are counted."""
        for piece in pieces:
            if self._stopping.is_set():
                raise _Interrupted
            promotion.num_bytes_read += len(piece)
            if time.monotonic() - self._renewed_at >= _RENEW_SECONDS:
                in_transaction(self._engine, _renew, promotion, lease_seconds=self._lease_seconds)
                self._renewed_at = time.monotonic()
            yield piece


def _waiting() -> Select[Promotion]:
    is_lost = and_(Promotion.status == PromotionStatus.RUNNING, Promotion.leased_until < db_time())
    return (
        select(Promotion)
        .where(or_(Promotion.status == PromotionStatus.QUEUED, is_lost))
        .order_by(Promotion.created_at, Promotion.checkpoint_id)
        .limit(1)
    )


def _fence(promotion: Promotion) -> ColumnElement[bool]:
    """Whether the promotion is still ours."""
    return and_(
        Promotion.checkpoint_id == promotion.checkpoint_id,
        Promotion.attempt == promotion.attempt,
        Promotion.status == PromotionStatus.RUNNING,
    )


def _move(session: Session, promotion: Promotion, **values: object) -> None:
    """The guarded statement through which whoever holds a promotion changes it.

    Raises:
        _Lost: it is somebody else's.
    """
    statement = update(Promotion).where(_fence(promotion)).values(**values).returning(Promotion.attempt)
    if session.scalar(statement.execution_options(synchronize_session=False)) is None:
        raise _Lost


def _renew(session: Session, promotion: Promotion, *, lease_seconds: float) -> None:
    ends = db_time(lease_seconds)
    _move(session, promotion, leased_until=ends, num_bytes_read=promotion.num_bytes_read)


def _release(session: Session, promotion: Promotion) -> None:
    _move(session, promotion, status=PromotionStatus.QUEUED, leased_until=None)


def _succeed(session: Session, promotion: Promotion) -> str:
    """Make the model; its id."""
    job = jobs_repository.lock_job(session, promotion.job_id)
    artifact = session.get(Artifact, promotion.artifact_id)
    if artifact is None:
        raise _Refused(
            f"the files of {promotion.checkpoint_id} were removed meanwhile", code="checkpoint_not_found"
        )
    # An API of an earlier release, which promotes at once, may have been quicker.
    model = find_promoted(session, promotion.checkpoint_id)
    if model is None:
        model = _new_model(session, promotion)
        message = f"{model.id} is the model after {meta_of(artifact)['step']} optimiser steps"
        details = {"model_id": model.id, "checkpoint_id": promotion.checkpoint_id}
        jobs_repository.add_event(session, job, "checkpoint_promoted", message, details=details)
    _move(
        session,
        promotion,
        status=PromotionStatus.SUCCEEDED,
        num_bytes_read=promotion.num_bytes,
        leased_until=None,
        model_id=model.id,
        finished_at=db_time(),
    )
    return model.id


def _new_model(session: Session, promotion: Promotion) -> Model:
    model = Model(
        project_id=promotion.project_id,
        name=promotion.name,
        artifact_id=promotion.artifact_id,
        checkpoint_id=promotion.checkpoint_id,
        checkpoint_job_id=promotion.job_id,
        created_by=promotion.created_by,
    )
    session.add(model)
    session.flush()
    return model


def _fail(session: Session, promotion: Promotion, refusal: _Refused) -> None:
    job = jobs_repository.lock_job(session, promotion.job_id)
    _move(
        session,
        promotion,
        status=PromotionStatus.FAILED,
        leased_until=None,
        error=refusal.told,
        finished_at=db_time(),
    )
    is_used = session.scalar(select(exists().where(Model.artifact_id == promotion.artifact_id)))
    if not is_used:
        artifact_repository.remove_artifacts(session, [promotion.artifact_id])
    details = {"checkpoint_id": promotion.checkpoint_id, "code": refusal.told["code"]}
    jobs_repository.add_event(
        session, job, "checkpoint_not_promoted", refusal.told["message"], details=details
    )


def _damaged(promotion: Promotion, file: ArtifactFile, reason: str) -> _Refused:
    return _Refused(f"{file.path} of {promotion.checkpoint_id}: {reason}", code="checkpoint_damaged")
