"""Uploaded files: arrival, reading, removal."""

from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.accounts.service import Principal
from app.artifacts.blobs import delete_unreferenced_blobs, require_blobs, store_and_record
from app.artifacts.manifest import ManifestFile
from app.catalog import repository
from app.catalog.checks import FileProblem, Purpose, check_uploaded_file
from app.catalog.uploads import ReceivedFile
from app.db.json_values import storable
from app.db.models import File
from app.db.session import read_only, transaction
from app.errors import Conflict, NotFound
from app.storage.store import ObjectStore, blob_key
from fusion.errors import InfrastructureError
from fusion.failpoints import failpoint

PROCESSED = "processed"
ERROR = "error"


def store_upload(
    engine: Engine,
    store: ObjectStore,
    received: ReceivedFile,
    *,
    filename: str,
    purpose: Purpose,
    principal: Principal,
) -> File:
    """Check a received file, store its bytes, then record it. A file with a problem is kept and says so."""
    problem = check_uploaded_file(received.path, filename=filename, purpose=purpose)
    key = blob_key(project_id=principal.project_id, sha256=received.sha256)
    described = ManifestFile(path=filename, size=received.size, sha256=received.sha256)

    def store_bytes() -> ManifestFile:
        store.put_file(key, received.path, sha256=received.sha256)
        return described

    def record(session: Session, stored: ManifestFile) -> File:
        require_blobs(session, store, [stored], project_id=principal.project_id)
        file = File(
            project_id=principal.project_id,
            filename=filename,
            purpose=purpose,
            num_bytes=stored.size,
            sha256=stored.sha256,
            status=PROCESSED if problem is None else ERROR,
            error=None if problem is None else _as_json(problem),
            created_by=principal.key_id,
        )
        session.add(file)
        session.flush()
        session.refresh(file)
        return file

    return store_and_record(engine, store_bytes, record)


def get_file(session: Session, *, project_id: str, file_id: str) -> File:
    """A file of the project.

    Raises:
        NotFound: there is none; another project's is none either.
    """
    file = repository.find_file(session, project_id=project_id, file_id=file_id)
    if file is None:
        raise NotFound(f"there is no file {file_id!r} in this project", code="file_not_found")
    return file


def delete_file(engine: Engine, store: ObjectStore, file_id: str, *, project_id: str) -> None:
    """Remove a file, and its bytes when nothing else has the same ones.

    Raises:
        NotFound: there is none.
        Conflict: a job that has not ended names it.
    """
    with transaction(engine) as session:
        file = get_file(session, project_id=project_id, file_id=file_id)
        user = repository.live_job_naming(session, project_id=project_id, resource_id=file_id)
        if user is not None:
            raise Conflict(f"{user} uses this file; cancel the job or wait for its end", code="file_in_use")
        session.delete(file)
    failpoint("file.forgotten")
    with transaction(engine) as session:
        delete_unreferenced_blobs(session, store, {file.sha256}, project_id=project_id)


def fetch_file(engine: Engine, store: ObjectStore, file_id: str, *, project_id: str, into: Path) -> Path:
    """Bring an uploaded file into a folder, under its own name, whose extension tells the format. Read-only.

    Raises:
        InfrastructureError: the file is gone, storage trouble, or bytes that are not those uploaded.
    """
    with read_only(engine) as session:
        file = repository.find_file(session, project_id=project_id, file_id=file_id)
    if file is None:
        raise InfrastructureError(f"there is no file {file_id}", code="file_missing")
    path = into / file.filename
    store.get_file(blob_key(project_id=project_id, sha256=file.sha256), path, sha256=file.sha256)
    return path


def _as_json(problem: FileProblem) -> dict[str, object]:
    stored: dict[str, object] = storable(
        {"code": problem.code, "message": problem.message, "hint": problem.hint, "line": problem.line}
    )
    return stored
