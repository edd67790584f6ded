"""The lease of a publication while its model is sent: its renewal, the fence, and whether to go on."""

import threading
import time
from types import TracebackType
from typing import Final, Self

from sqlalchemy import Engine, and_, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.models import Publication
from app.db.session import in_transaction
from app.logs import get_logger
from app.publications.repository import PublicationStatus

LEASE_SECONDS: Final = 60.0
_RENEW_SECONDS: Final = 5.0
_MAX_SILENT_SECONDS: Final = 3600.0
"""Nothing that is sent takes so long without a byte: whoever does has been lost."""

log = get_logger(__name__)


class Interrupted(Exception):
    """This process is about to end."""


class Lost(Exception):
    """Somebody else has the publication by now, or it was cancelled."""


class Lease:
    """Renewed by a thread of its own, for a place may think for minutes while nothing is read."""

    def __init__(
        self, engine: Engine, publication: Publication, *, lease_seconds: float, stopping: threading.Event
    ) -> None:
        """`stopping`: set when this process is about to end."""
        self._engine = engine
        self._publication = publication
        self._lease_seconds = lease_seconds
        self._stopping = stopping
        self._ended = threading.Event()
        self._is_lost = False
        self._noted_at = time.monotonic()
        self._thread = threading.Thread(target=self._renew, name="publication-lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def note(self, num_bytes: int) -> None:
        """Count bytes that are about to be sent.

        Raises:
            Interrupted: nothing should be sent any more.
            Lost: not by this process.
        """
        if self._stopping.is_set():
            raise Interrupted
        if self._is_lost:
            raise Lost
        self._noted_at = time.monotonic()
        sent = self._publication.num_bytes_sent + num_bytes
        self._publication.num_bytes_sent = min(sent, self._publication.num_bytes)

    def _renew(self) -> None:
        while not self._ended.wait(_RENEW_SECONDS):
            if time.monotonic() - self._noted_at > _MAX_SILENT_SECONDS:
                log.error("publication_silent", publication_id=self._publication.id)
                self._is_lost = True
            if self._is_lost:
                return
            try:
                in_transaction(self._engine, self._extend)
            except Lost:
                self._is_lost = True
            except DBAPIError as error:
                # The lease outlasts some of these; whoever comes next begins again otherwise.
                log.warning("database_unreachable", publication_id=self._publication.id, error=str(error))

    def _extend(self, session: Session) -> None:
        ends = db_time(self._lease_seconds)
        sent = self._publication.num_bytes_sent
        move(session, self._publication, leased_until=ends, num_bytes_sent=sent)


def move(session: Session, publication: Publication, **values: object) -> None:
    """The guarded statement through which whoever holds a publication changes it.

    Raises:
        Lost: it is somebody else's.
    """
    is_ours = and_(
        Publication.id == publication.id,
        Publication.attempt == publication.attempt,
        Publication.status == PublicationStatus.RUNNING,
    )
    statement = update(Publication).where(is_ours).values(**values).returning(Publication.attempt)
    if session.scalar(statement.execution_options(synchronize_session=False)) is None:
        raise Lost
