"""Sends the models whose publication waits, wherever somebody keeps house.

Whoever sends holds the publication by a lease (`app.publications.lease`), and the number of the attempt is
its fence: after a crash another one begins again, and finds at the place what is there already. A place that
cannot be reached is tried again with growing pauses, and so is what nobody came back from.
"""

import base64
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Final

from sqlalchemy import Engine, Select, and_, func, or_, select
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
from app.publications.lease import LEASE_SECONDS, Interrupted, Lease, Lost, move
from app.publications.model_files import ModelFiles
from app.publications.outcomes import Place, Refused, Unreachable
from app.publications.repository import PublicationStatus
from app.publications.to_bucket import send_to_bucket
from app.publications.to_hub import send_to_hub
from app.publications.to_mlflow import send_to_mlflow
from app.retries import next_try_in
from app.sealing import Seals
from app.secrets.service import find_secret, open_secret
from app.storage.store import ObjectDamaged, ObjectMissing, ObjectStore
from fusion.errors import InfrastructureError
from fusion.failpoints import failpoint

RETRY_SECONDS: Final[Sequence[float]] = (0.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 7200.0)
"""Before the first try, the second and so on: three and a half hours in all."""
_HIDDEN: Final = "[secret]"
_MAX_SHOWN: Final = 500

log = get_logger(__name__)


class Publisher:
    """Works off the publications that wait."""

    def __init__(
        self,
        engine: Engine,
        store: ObjectStore,
        *,
        seals: Callable[[], Seals],
        outlets: Outlets,
        only_idle_projects: bool = False,
        lease_seconds: float = LEASE_SECONDS,
        pauses: Sequence[float] = RETRY_SECONDS,
    ) -> None:
        """`only_idle_projects`: whether to send only for projects for which nobody sends anything."""
        self._engine = engine
        self._store = store
        self._seals = seals
        self._outlets = outlets
        self._only_idle_projects = only_idle_projects
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
            except Interrupted:
                with suppress(Lost):
                    in_transaction(self._engine, _release, publication)
                break
            except Lost:
                log.warning("publication_lost", publication_id=publication.id)
                continue
            num_tried += 1
        return num_tried

    def _claim(self) -> Publication | None:
        """The publication that is due for longest, now ours; nothing is written while none is."""
        due = _due(only_idle_projects=self._only_idle_projects)
        with read_only(self._engine) as session:
            if session.scalar(due) is None:
                return None
        with transaction(self._engine) as session:
            found = session.scalar(due.with_for_update(of=Publication, skip_locked=True))
            if found is not None:
                # Who had it ended or fell silent, which may be due to what it sent.
                found.num_failures += found.status == PublicationStatus.RUNNING
                found.status = PublicationStatus.RUNNING
                found.attempt += 1
                found.num_bytes_sent = 0
                found.leased_until = db_time(self._lease_seconds)
        return found

    def _publish(self, publication: Publication) -> None:
        hidden: list[str] = []
        try:
            if publication.num_failures >= len(self._pauses):
                raise Refused("whoever sent it did not come back, too often", code="publication_gave_out")
            place = self._send(publication, hidden)
            failpoint("publication.sent")
            in_transaction(self._engine, _succeed, publication, place)
        except Refused as refusal:
            told = _told(refusal.code, refusal.message, hidden)
            in_transaction(self._engine, _fail, publication, told, num_failures=publication.num_failures)
            log.warning("publication_failed", publication_id=publication.id, **told)
        except Unreachable as trouble:
            told = _told("destination_unreachable", trouble.message, hidden)
            self._put_back(publication, told, asked_seconds=trouble.asked_seconds)
        except InfrastructureError as trouble:
            self._put_back(publication, _told(trouble.code, trouble.message, hidden))
        except (Interrupted, Lost, DBAPIError):
            raise
        except Exception:
            # A mistake of ours or of a library. It is tried again, but not for ever.
            log.exception("publication_broke", publication_id=publication.id)
            self._put_back(
                publication, _told("internal_error", "the service made a mistake, which its log tells", [])
            )
        else:
            log.info("model_published", publication_id=publication.id, **asdict(place))

    def _put_back(
        self, publication: Publication, told: dict[str, str | None], *, asked_seconds: float | None = None
    ) -> None:
        pause = next_try_in(publication.num_failures + 1, asked_seconds=asked_seconds, pauses=self._pauses)
        in_transaction(self._engine, _try_again, publication, told, pause)
        log.warning("publication_in_vain", publication_id=publication.id, next_try_in=pause, **told)

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

    def _send(self, publication: Publication, hidden: list[str]) -> Place:
        """Send the model; whatever a secret looks like on the way is added to `hidden`."""
        destination = read_destination(publication.destination)
        if (problem := self._outlets.problem(destination)) is not None:
            raise Refused(problem.detail, code=problem.code)
        secret = self._secret_of(publication, destination)
        hidden += _looks_of(secret, destination)
        with read_only(self._engine) as session:
            artifact = session.get(Artifact, publication.artifact_id)
            stored = artifact_repository.files_of(session, publication.artifact_id)
        if artifact is None:
            raise Refused(f"the files of {publication.model_id} were removed", code="model_not_found")
        with Lease(
            self._engine, publication, lease_seconds=self._lease_seconds, stopping=self._stopping
        ) as lease:
            files = ModelFiles(self._store, stored, on_read=lease.note)
            try:
                return self._send_files(publication, destination, files, artifact, secret=secret)
            except (ObjectMissing, ObjectDamaged) as error:
                raise Refused(error.message, code="model_damaged") from error

    def _send_files(
        self,
        publication: Publication,
        destination: Destination,
        files: ModelFiles,
        artifact: Artifact,
        *,
        secret: str | None,
    ) -> Place:
        match destination:
            case HubDestination():
                assert secret is not None, "the field is required"
                return send_to_hub(destination, files, endpoint=self._outlets.hub, token=secret)
            case BucketDestination():
                assert secret is not None, "the field is required"
                return send_to_bucket(destination, files, secret_access_key=secret, digest=artifact.digest)
            case MlflowDestination():
                return send_to_mlflow(
                    destination,
                    files,
                    secret=secret,
                    publication_id=publication.id,
                    tags=_tags(publication, artifact),
                )


def _due(*, only_idle_projects: bool) -> Select[Publication]:
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
    due = select(Publication).where(or_(is_waiting, is_lost))
    if only_idle_projects:
        due = due.where(num_running == 0)
    return due.order_by(num_running, Publication.due_at, Publication.id).limit(1)


def _release(session: Session, publication: Publication) -> None:
    move(session, publication, status=PublicationStatus.QUEUED, leased_until=None)


def _try_again(
    session: Session, publication: Publication, told: dict[str, str | None], pause: float | None
) -> None:
    """Put it back for later, or give it up when it was tried often enough."""
    num_failures = publication.num_failures + 1
    if pause is None:
        _fail(session, publication, told, num_failures=num_failures)
        return
    move(
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
    move(
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
    move(
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


def _looks_of(secret: str | None, destination: Destination) -> list[str]:
    """A secret as it is sent."""
    if secret is None:
        return []
    if isinstance(destination, MlflowDestination) and destination.username is not None:
        both = f"{destination.username}:{secret}"
        return [secret, base64.b64encode(both.encode()).decode()]
    return [secret]


def _told(code: str, message: str, hidden: Sequence[str]) -> dict[str, str | None]:
    for text in hidden:
        message = message.replace(text, _HIDDEN)
    return {"code": code, "message": message[:_MAX_SHOWN], "hint": HINT_OF_CODE.get(code)}


def _tags(publication: Publication, artifact: Artifact) -> dict[str, str]:
    """What a registry wants to know of a model."""
    return {
        "fusion.model_id": publication.model_id,
        "fusion.job_id": publication.job_id,
        "fusion.digest": artifact.digest,
    }
