"""Checks large files after their upload is answered: one at a time, wherever somebody keeps house.

A process that checks a file holds it by a lease, so that two do not read it at once; it would do no harm.
"""

import threading
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import Engine, Select, or_, select, update
from sqlalchemy.orm import Session

from app.catalog.checks import Finding, check_uploaded_file
from app.catalog.findings import FileProblem
from app.db.base import db_time
from app.db.json_values import storable
from app.db.models import File
from app.db.session import in_transaction, read_only, transaction
from app.logs import get_logger
from app.storage.byte_source import ByteSource
from app.storage.store import ObjectDamaged, ObjectMissing, ObjectStore, blob_key

UPLOADED: Final = "uploaded"
PROCESSED: Final = "processed"
ERROR: Final = "error"
_LEASE_SECONDS: Final = 1800.0

log = get_logger(__name__)


class _Interrupted(Exception):
    """This process is about to end."""


class FileChecker:
    """Checks the files that wait for it."""

    def __init__(self, engine: Engine, store: ObjectStore) -> None:
        self._engine = engine
        self._store = store
        self._stopping = threading.Event()

    def interrupt(self) -> None:
        """Give up what is under way; whoever comes next begins it again."""
        self._stopping.set()

    def run_once(self) -> int:
        """Check every file that waits; how many there were."""
        num_checked = 0
        while not self._stopping.is_set() and (file := self._claim()) is not None:
            try:
                finding = self._check(file)
            except _Interrupted:
                in_transaction(self._engine, _release, file)
                break
            in_transaction(self._engine, _record, file, finding)
            num_checked += 1
            problem = None if finding.problem is None else finding.problem.code
            log.info("file_checked", file_id=file.id, problem=problem)
        return num_checked

    def _claim(self) -> File | None:
        """The oldest file that nobody checks, now ours; nothing is written while none waits."""
        with read_only(self._engine) as session:
            if session.scalar(_waiting()) is None:
                return None
        with transaction(self._engine) as session:
            found = session.scalar(_waiting().with_for_update(skip_locked=True))
            if found is not None:
                found.check_ends_at = db_time(_LEASE_SECONDS)
        return found

    def _check(self, file: File) -> Finding:
        key = blob_key(project_id=file.project_id, sha256=file.sha256)
        stored = ByteSource.in_store(self._store, key, size=file.num_bytes)
        source = ByteSource(
            size=stored.size,
            open_range=lambda start, end: self._unless_stopping(stored.open_range(start, end)),
        )
        purpose: Any = file.purpose
        try:
            return check_uploaded_file(source, filename=file.filename, purpose=purpose)
        except (ObjectMissing, ObjectDamaged) as error:
            problem = FileProblem(code=error.code, message=error.message, hint="upload the file again")
            return Finding(problem=problem)

    def _unless_stopping(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if self._stopping.is_set():
                raise _Interrupted
            yield piece


def columns_of(finding: Finding) -> dict[str, Any]:
    """How a finding is stored."""
    return {
        "status": PROCESSED if finding.problem is None else ERROR,
        "error": None if finding.problem is None else storable(asdict(finding.problem)),
        "facts": None if finding.facts is None else storable(asdict(finding.facts)),
    }


def _waiting() -> Select[File]:
    unclaimed = or_(File.check_ends_at.is_(None), File.check_ends_at < db_time())
    return select(File).where(File.status == UPLOADED, unclaimed).order_by(File.id).limit(1)


def _record(session: Session, file: File, finding: Finding) -> None:
    still_waits = (File.id == file.id, File.status == UPLOADED)
    session.execute(update(File).where(*still_waits).values(**columns_of(finding), check_ends_at=None))


def _release(session: Session, file: File) -> None:
    session.execute(update(File).where(File.id == file.id).values(check_ends_at=None))
