"""Sends the models whose publication waits, wherever somebody keeps house.

Whoever sends holds the publication by a lease that it renews as it reads, and the number of the attempt is
its fence: after a crash another one begins again, and finds at the place what is there already. A place that
cannot be reached is tried again with growing pauses.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Final

from sqlalchemy import ColumnElement, Engine, Select, and_, func, or_, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, aliased

from app.artifacts import repository as artifact_repository
from app.db.base import db_time
from app.db.models import Artifact, Publication
from app.db.session import in_transaction, read_only, transaction
from app.errors import Unprocessable
from app.hints import HINT_OF_CODE
from app.jobs import repository as jobs_repository
from app.logs import get_logger
from app.publications.destinations import (
    BucketDestination,
    Destination,
    HubDestination,
    MlflowDestination,
    Outlets,
    read_destination,
)
from app.publications.model_files import ModelFiles
from app.publications.outcomes import Place, Refused, Unreachable
from app.publications.repository import PublicationStatus
from app.publications.to_bucket import send_to_bucket
from app.publications.to_hub import send_to_hub
from app.publications.to_mlflow import send_to_mlflow
from app.sealing import Seals
from app.secrets.service import find_secret, open_secret
from app.storage.store import ObjectDamaged, ObjectMissing, ObjectStore
from app.webhooks.schedule import next_try_in
from fusion.errors import InfrastructureError
from fusion.failpoints import failpoint

LEASE_SECONDS: Final = 600.0
"""Longer than a hub may think about a commit, in which nothing is read."""
RETRY_SECONDS: Final[Sequence[float]] = (0.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 7200.0)
"""Before the first try, the second and so on: three and a half hours in all."""
_RENEW_SECONDS: Final = 5.0
_HIDDEN: Final = "[secret]"

log = get_logger(__name__)


class _Interrupted(Exception):
    """This process is about to end."""


class _Lost(Exception):
    """Somebody else has the publication by now, or it was cancelled."""


class Publisher:
    """Works off the publications that wait."""

    def __init__(
        self,
        engine: Engine,
        store: ObjectStore,
        *,
        seals: Callable[[], Seals],
        outlets: Outlets,
        lease_seconds: float = LEASE_SECONDS,
        pauses: Sequence[float] = RETRY_SECONDS,
    ) -> None:
        self._engine = engine
        self._store = store
        self._seals = seals
        self._outlets = outlets
        self._lease_seconds = lease_seconds
        self._pauses = pauses
        self._stopping = threading.Event()

    def interrupt(self) -> None:
        """Give up what is under way; whoever comes next begins it again."""
        self._stopping.set()

    def run_once(self) -> int:
        """Send every model whose publication is due; how many were tried."""
        num_tried = 0
        while not self._stopping.is_set() and (publication := self._claim()) is not None:
            try:
                self._publish(publication)
            except _Interrupted:
                with suppress(_Lost):
                    in_transaction(self._engine, _release, publication)
                break
            except _Lost:
                log.warning("publication_lost", publication_id=publication.id)
                continue
            num_tried += 1
        return num_tried

    def _claim(self) -> Publication | None:
        """The publication that is due for longest, now ours; nothing is written while none is."""
        with read_only(self._engine) as session:
            if session.scalar(_due()) is None:
                return None
        with transaction(self._engine) as session:
            found = session.scalar(_due().with_for_update(of=Publication, skip_locked=True))
            if found is not None:
                found.status = PublicationStatus.RUNNING
                found.attempt += 1
                found.num_bytes_sent = 0
                found.leased_until = db_time(self._lease_seconds)
        return found

    def _publish(self, publication: Publication) -> None:
        secret: str | None = None
        try:
            destination = read_destination(publication.destination)
            secret = self._secret_of(publication, destination)
            place = self._send(publication, destination, secret=secret)
            failpoint("publication.sent")
            in_transaction(self._engine, _succeed, publication, place)
        except Refused as refusal:
            told = _told(refusal.code, refusal.message, secret=secret)
            in_transaction(self._engine, _fail, publication, told, num_failures=publication.num_failures)
            log.warning("publication_failed", publication_id=publication.id, **told)
        except (Unreachable, InfrastructureError) as trouble:
            told = _told("destination_unreachable", trouble.message, secret=secret)
            asked = trouble.asked_seconds if isinstance(trouble, Unreachable) else None
            pause = next_try_in(publication.num_failures + 1, asked_seconds=asked, pauses=self._pauses)
            in_transaction(self._engine, _try_again, publication, told, pause)
            log.warning("publication_in_vain", publication_id=publication.id, next_try_in=pause, **told)
        except (_Interrupted, _Lost, DBAPIError):
            raise
        except Exception:
            # A mistake of ours or of a library. It is tried again, but not for ever.
            log.exception("publication_broke", publication_id=publication.id)
            told = _told("internal_error", "the service made a mistake, which its log tells", secret=secret)
            pause = next_try_in(publication.num_failures + 1, asked_seconds=None, pauses=self._pauses)
            in_transaction(self._engine, _try_again, publication, told, pause)
        else:
            log.info("model_published", publication_id=publication.id, **asdict(place))

    def _secret_of(self, publication: Publication, destination: Destination) -> str | None:
        if destination.secret is None:
            return None
        with read_only(self._engine) as session:
            try:
                found = find_secret(
                    session,
                    project_id=publication.project_id,
                    name=destination.secret,
                    pointer="/secret",
                )
            except Unprocessable as error:
                raise Refused(f"{error.detail} any more", code="secret_not_found") from error
            return open_secret(self._seals(), found)

    def _send(self, publication: Publication, destination: Destination, *, secret: str | None) -> Place:
        if (problem := self._outlets.problem(destination)) is not None:
            raise Refused(problem.detail, code=problem.code)
        with read_only(self._engine) as session:
            artifact = session.get(Artifact, publication.artifact_id)
            stored = artifact_repository.files_of(session, publication.artifact_id)
        if artifact is None:
            raise Refused(f"the files of {publication.model_id} were removed", code="model_not_found")
        files = ModelFiles(self._store, stored, on_read=self._count(publication))
        try:
            match destination:
                case HubDestination():
                    assert secret is not None, "the field is required"
                    return send_to_hub(destination, files, endpoint=self._outlets.hub, token=secret)
                case BucketDestination():
                    assert secret is not None, "the field is required"
                    return send_to_bucket(
                        destination, files, secret_access_key=secret, digest=artifact.digest
                    )
                case MlflowDestination():
                    return send_to_mlflow(
                        destination,
                        files,
                        secret=secret,
                        publication_id=publication.id,
                        tags=_tags(publication, artifact),
                    )
        except (ObjectMissing, ObjectDamaged) as error:
            raise Refused(error.message, code="model_damaged") from error

    def _count(self, publication: Publication) -> Callable[[int], None]:
        """Notes what was read, renews the lease, and stops whoever reads once that is of no use."""
        renewed_at = time.monotonic()

        def note(num_bytes: int) -> None:
            nonlocal renewed_at
            if self._stopping.is_set():
                raise _Interrupted
            sent = publication.num_bytes_sent + num_bytes
            publication.num_bytes_sent = min(sent, publication.num_bytes)
            if time.monotonic() - renewed_at >= _RENEW_SECONDS:
                in_transaction(self._engine, _renew, publication, lease_seconds=self._lease_seconds)
                renewed_at = time.monotonic()

        return note


def _due() -> Select[Publication]:
    """The one to send next: of the project for which the fewest are sent, the one that waits for longest."""
    is_waiting = and_(Publication.status == PublicationStatus.QUEUED, Publication.due_at <= db_time())
    is_lost = and_(Publication.status == PublicationStatus.RUNNING, Publication.leased_until < db_time())
    other = aliased(Publication)
    num_running = (
        select(func.count())
        .where(
            other.project_id == Publication.project_id,
            other.status == PublicationStatus.RUNNING,
            other.leased_until >= db_time(),
        )
        .scalar_subquery()
    )
    return (
        select(Publication)
        .where(or_(is_waiting, is_lost))
        .order_by(num_running, Publication.due_at, Publication.id)
        .limit(1)
    )


def _fence(publication: Publication) -> ColumnElement[bool]:
    """Whether the publication is still ours."""
    return and_(
        Publication.id == publication.id,
        Publication.attempt == publication.attempt,
        Publication.status == PublicationStatus.RUNNING,
    )


def _move(session: Session, publication: Publication, **values: object) -> None:
    """The guarded statement through which whoever holds a publication changes it.

    Raises:
        _Lost: it is somebody else's.
    """
    statement = update(Publication).where(_fence(publication)).values(**values).returning(Publication.attempt)
    if session.scalar(statement.execution_options(synchronize_session=False)) is None:
        raise _Lost


def _renew(session: Session, publication: Publication, *, lease_seconds: float) -> None:
    ends = db_time(lease_seconds)
    _move(session, publication, leased_until=ends, num_bytes_sent=publication.num_bytes_sent)


def _release(session: Session, publication: Publication) -> None:
    _move(session, publication, status=PublicationStatus.QUEUED, leased_until=None)


def _try_again(
    session: Session, publication: Publication, told: dict[str, str | None], pause: float | None
) -> None:
    """Put it back for later, or give it up when it was tried often enough."""
    num_failures = publication.num_failures + 1
    if pause is None:
        _fail(session, publication, told, num_failures=num_failures)
        return
    _move(
        session,
        publication,
        status=PublicationStatus.QUEUED,
        leased_until=None,
        due_at=db_time(pause),
        num_failures=num_failures,
        error=told,
    )


def _succeed(session: Session, publication: Publication, place: Place) -> None:
    job = jobs_repository.lock_job(session, publication.job_id)
    _move(
        session,
        publication,
        status=PublicationStatus.SUCCEEDED,
        num_bytes_sent=publication.num_bytes,
        leased_until=None,
        place=asdict(place),
        error=None,
        finished_at=db_time(),
    )
    details = {"model_id": publication.model_id, "publication_id": publication.id, **asdict(place)}
    message = f"{publication.model_id} is published at {place.url}"
    jobs_repository.add_event(session, job, "model_published", message, details=details)


def _fail(
    session: Session, publication: Publication, told: dict[str, str | None], *, num_failures: int
) -> None:
    job = jobs_repository.lock_job(session, publication.job_id)
    _move(
        session,
        publication,
        status=PublicationStatus.FAILED,
        leased_until=None,
        error=told,
        num_failures=num_failures,
        finished_at=db_time(),
    )
    details = {
        "model_id": publication.model_id,
        "publication_id": publication.id,
        "code": told["code"],
    }
    jobs_repository.add_event(session, job, "model_not_published", str(told["message"]), details=details)


def _told(code: str, message: str, *, secret: str | None) -> dict[str, str | None]:
    shown = message if secret is None else message.replace(secret, _HIDDEN)
    return {"code": code, "message": shown, "hint": HINT_OF_CODE.get(code)}


def _tags(publication: Publication, artifact: Artifact) -> dict[str, str]:
    """What a registry wants to know of a model."""
    return {
        "fusion.model_id": publication.model_id,
        "fusion.job_id": publication.job_id,
        "fusion.digest": artifact.digest,
    }
