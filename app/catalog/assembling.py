"""From the parts of an upload to a file."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.accounts.service import Principal
from app.artifacts.blobs import delete_unreferenced_blobs, require_blobs, store_and_record
from app.artifacts.manifest import ManifestFile
from app.catalog import repository as files_repository
from app.catalog import upload_repository as repository
from app.catalog.files import Arrival, check_now, record_file, store_received
from app.catalog.receiving import UPLOAD_PREFIX, ReceivedFile
from app.catalog.upload_repository import COMPLETED
from app.catalog.uploads import end_upload, get_upload, require_pending, wanted_of
from app.db.base import db_time
from app.db.models import Upload, UploadPart
from app.db.session import transaction
from app.errors import Conflict, FieldProblem, Unprocessable
from app.storage.store import ObjectDamaged, ObjectMissing, ObjectStore, blob_key

_ASSEMBLING_SECONDS = 3600.0
_READ_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Promise:
    """What a client says when it completes an upload: order of the parts, digests of the whole."""

    part_ids: Sequence[str]
    md5: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """A completed upload; `arrival` is None once its file was deleted."""

    upload: Upload
    arrival: Arrival | None


def complete_upload(
    engine: Engine,
    store: ObjectStore,
    *,
    upload_id: str,
    promise: Promise,
    principal: Principal,
    folder: Path,
    max_checked_bytes: int,
) -> Completed:
    """Put the parts together, in the order given, and record the file. Completing again gives that file.

    Raises:
        NotFound: there is no such upload.
        Conflict: it was cancelled, has expired, or a part of it is damaged and has to be sent again.
        Unprocessable: names the part that is not there, or the size or digest that differs.
    """
    with transaction(engine) as session:
        upload = get_upload(session, project_id=principal.project_id, upload_id=upload_id, lock=True)
        if upload.status == COMPLETED:
            return _completed_before(session, upload)
        require_pending(session, project_id=principal.project_id, upload_id=upload_id)
        parts = _in_order(repository.parts_of(session, upload_id), promise, num_bytes=upload.num_bytes)
        # Nobody may collect the parts while they are read.
        upload.expires_at = db_time(_ASSEMBLING_SECONDS)
    with _assembled(store, parts, folder=folder) as (received, md5):
        _check_digests(received, md5, promise, announced=upload.announced_digest)
        completed, digests = _store(
            engine,
            store,
            received,
            upload=upload,
            principal=principal,
            max_checked_bytes=max_checked_bytes,
        )
    with transaction(engine) as session:
        delete_unreferenced_blobs(session, store, digests, project_id=principal.project_id)
    return completed


def _store(
    engine: Engine,
    store: ObjectStore,
    received: ReceivedFile,
    *,
    upload: Upload,
    principal: Principal,
    max_checked_bytes: int,
) -> tuple[Completed, set[str]]:
    wanted = wanted_of(upload)
    finding = check_now(received, wanted=wanted, max_checked_bytes=max_checked_bytes)
    project_id = principal.project_id

    def record(session: Session, stored: ManifestFile) -> tuple[Completed, set[str]]:
        locked = get_upload(session, project_id=project_id, upload_id=upload.id, lock=True)
        if locked.status == COMPLETED:
            return _completed_before(session, locked), set()
        require_pending(session, project_id=project_id, upload_id=upload.id)
        require_blobs(session, store, [stored], project_id=project_id)
        arrival = record_file(session, stored, wanted=wanted, principal=principal, finding=finding)
        locked.file_id = arrival.file.id
        digests = end_upload(session, locked, status=COMPLETED)
        return Completed(upload=locked, arrival=arrival), digests

    return store_and_record(engine, lambda: store_received(store, received, project_id=project_id), record)


def _completed_before(session: Session, upload: Upload) -> Completed:
    assert upload.file_id is not None, "a completed upload became a file"
    file = files_repository.find_file(session, project_id=upload.project_id, file_id=upload.file_id)
    return Completed(upload=upload, arrival=None if file is None else Arrival(file=file, duplicate_of=None))


def _in_order(parts: Sequence[UploadPart], promise: Promise, *, num_bytes: int) -> list[UploadPart]:
    by_id = {part.id: part for part in parts}
    unknown = [(index, id_) for index, id_ in enumerate(promise.part_ids) if id_ not in by_id]
    if unknown:
        raise _refused(
            [(f"/part_ids/{index}", f"the upload has no part {id_!r}") for index, id_ in unknown],
            code="part_not_found",
        )
    ordered = [by_id[id_] for id_ in promise.part_ids]
    found = sum(part.num_bytes for part in ordered)
    if found != num_bytes:
        raise _refused(
            [("/part_ids", f"these parts have {found} bytes together, announced were {num_bytes}")],
            code="upload_size_differs",
        )
    return ordered


def _check_digests(received: ReceivedFile, md5: str, promise: Promise, *, announced: str | None) -> None:
    expected = [
        ("/md5", promise.md5, md5),
        ("/sha256", promise.sha256, received.sha256),
        ("/part_ids", announced, received.sha256),
    ]
    wrong = [
        (pointer, f"the parts make {found}, expected {wanted}")
        for pointer, wanted, found in expected
        if wanted is not None and wanted.lower() != found
    ]
    if wrong:
        raise _refused(wrong, code="digest_differs")


@contextmanager
def _assembled(
    store: ObjectStore, parts: Sequence[UploadPart], *, folder: Path
) -> Iterator[tuple[ReceivedFile, str]]:
    """The parts as one file that is removed when the block ends, and its md5."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=UPLOAD_PREFIX, dir=folder)
    path = Path(name)
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                for piece in _pieces(store, part, folder=folder):
                    sha256.update(piece)
                    md5.update(piece)
                    file.write(piece)
        size = path.stat().st_size
        yield (
            ReceivedFile(path=path, size=size, sha256=sha256.hexdigest(), filename=None, fields={}),
            md5.hexdigest(),
        )
    finally:
        path.unlink(missing_ok=True)


def _pieces(store: ObjectStore, part: UploadPart, *, folder: Path) -> Iterator[bytes]:
    """The bytes of a part, once all of them are known to be right."""
    scratch = folder / f"{UPLOAD_PREFIX}{part.id}-{os.urandom(6).hex()}"
    key = blob_key(project_id=part.project_id, sha256=part.sha256)
    try:
        store.get_file(key, scratch, sha256=part.sha256)
        with scratch.open("rb") as file:
            yield from _read(file)
    except (ObjectMissing, ObjectDamaged) as error:
        raise Conflict(
            f"the stored bytes of {part.id} are damaged or gone",
            code="part_damaged",
            hint="send this part again, then complete the upload with the same ids",
        ) from error
    finally:
        scratch.unlink(missing_ok=True)


def _read(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_READ_BYTES):
        yield piece


def _refused(problems: Sequence[tuple[str, str]], *, code: str) -> Unprocessable:
    errors = [FieldProblem(pointer=pointer, code=code, detail=detail) for pointer, detail in problems]
    return Unprocessable("; ".join(detail for _, detail in problems), code=code, errors=errors)
