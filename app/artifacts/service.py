"""Publishing folders under the fence of an attempt, and fetching them again.

Bytes first, without a transaction; then the rows, in one. A row therefore always refers to stored bytes, and
a reader never sees half an artifact. What an attempt uploads without reaching its rows is garbage, not harm.
"""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.artifacts import repository
from app.artifacts.blobs import require_blobs, store_and_record
from app.artifacts.kinds import ArtifactKind
from app.artifacts.manifest import (
    MANIFEST_NAME,
    FolderManifest,
    ManifestFile,
    check_file,
    check_relative_path,
    describe_file,
    read_folder_manifest,
)
from app.db.fence import hold_step
from app.db.json_values import storable
from app.db.models import Artifact, ArtifactFile
from app.db.session import read_only
from app.errors import NotFound
from app.storage.store import ObjectStore, blob_key
from fusion.errors import InfrastructureError


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFolder:
    """A folder whose bytes are in the store: its manifest, and every file with the manifest file itself."""

    manifest: FolderManifest
    files: tuple[ManifestFile, ...]

    @property
    def num_bytes(self) -> int:
        return sum(file.size for file in self.files)


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Which attempt of which step made an artifact, and what it is to that step."""

    project_id: str
    job_id: str
    step_id: str
    attempt: int
    kind: ArtifactKind
    role: str


def publish_folder(engine: Engine, store: ObjectStore, folder: Path, *, origin: Origin) -> str | None:
    """Store a finished folder and make it visible as an artifact. Safe to repeat.

    Returns:
        Id of the artifact; `None` when the attempt no longer runs its step, so that its caller must stop.

    Raises:
        InfrastructureError: unfinished or damaged folder, or storage trouble.
    """
    return store_and_record(
        engine,
        lambda: store_folder(store, folder, project_id=origin.project_id),
        lambda session, stored: record_artifact(session, store, stored, origin=origin),
    )


def store_folder(store: ObjectStore, folder: Path, *, project_id: str) -> StoredFolder:
    """Upload the files that a folder's manifest lists, each checked against its size and sha256.

    On a local store the files are linked and become read-only.
    """
    manifest = read_folder_manifest(folder)
    files = (*manifest.files, describe_file(folder, MANIFEST_NAME))
    for file in files:
        key = blob_key(project_id=project_id, sha256=file.sha256)
        store.put_file(key, check_file(folder, file), sha256=file.sha256)
    return StoredFolder(manifest=manifest, files=files)


def record_artifact(
    session: Session, store: ObjectStore, stored: StoredFolder, *, origin: Origin
) -> str | None:
    """Insert the rows of a stored folder while the attempt runs its step; `None` when it no longer does.

    A step has one artifact per kind and role: the same contents again keep it, other contents replace it.
    """
    if not hold_step(session, step_id=origin.step_id, attempt=origin.attempt):
        return None
    earlier = repository.artifacts_of_role(
        session, step_id=origin.step_id, kind=origin.kind, role=origin.role
    )
    for artifact in earlier:
        if artifact.digest == stored.manifest.digest:
            return artifact.id
    require_blobs(session, store, stored.files, project_id=origin.project_id)
    repository.remove_artifacts(session, [artifact.id for artifact in earlier])
    return new_artifact(session, stored, origin=origin).id


def new_artifact(session: Session, stored: StoredFolder, *, origin: Origin) -> Artifact:
    """Insert the rows of a stored folder whose blobs are kept (`require_blobs`)."""
    artifact = _artifact_row(stored, origin=origin)
    session.add(artifact)
    session.flush()
    session.add_all(_file_row(artifact, file) for file in stored.files)
    return artifact


def fetch_artifact(engine: Engine, store: ObjectStore, artifact_id: str, into: Path) -> Path:
    """Bring an artifact's files into a folder, the manifest last, and verify them. The files are read-only.

    Takes the engine and not a session: a download must not hold a transaction open.

    Raises:
        InfrastructureError: no such artifact, storage trouble, or bytes that are not those stored.
    """
    with read_only(engine) as session:
        files = repository.files_of(session, artifact_id)
    if not files:
        raise InfrastructureError(f"there is no artifact {artifact_id}", code="artifact_missing")
    for file in sorted(files, key=lambda file: file.path == MANIFEST_NAME):
        _fetch_file(store, file, into / check_relative_path(file.path))
    return into


def get_artifact(session: Session, *, project_id: str, artifact_id: str) -> Artifact:
    """An artifact of the project.

    Raises:
        NotFound: there is none; another project's is none either.
    """
    artifact = repository.find_artifact(session, project_id=project_id, artifact_id=artifact_id)
    if artifact is None:
        raise NotFound(f"there is no artifact {artifact_id!r} in this project", code="artifact_not_found")
    return artifact


def get_artifact_file(session: Session, artifact: Artifact, path: str | None) -> ArtifactFile:
    """One file of an artifact. `path` may be left out where it has only one besides its manifest.

    Raises:
        NotFound: no such file, or several to choose from; names what there is.
    """
    files = repository.files_of(session, artifact.id)
    candidates = [file for file in files if file.path == path]
    if path is None:
        candidates = [file for file in files if file.path != MANIFEST_NAME]
    if len(candidates) == 1:
        return candidates[0]
    known = ", ".join(file.path for file in files[:20])
    wanted = "which file? Give ?path=" if path is None else f"no file {path!r} in {artifact.id}"
    raise NotFound(f"{wanted} ({len(files)} files: {known})", code="artifact_file_not_found")


def _fetch_file(store: ObjectStore, file: ArtifactFile, path: Path) -> None:
    key = blob_key(project_id=file.project_id, sha256=file.sha256)
    store.get_file(key, path, sha256=file.sha256)


def _artifact_row(stored: StoredFolder, *, origin: Origin) -> Artifact:
    return Artifact(
        project_id=origin.project_id,
        job_id=origin.job_id,
        step_id=origin.step_id,
        attempt=origin.attempt,
        kind=origin.kind.value,
        role=origin.role,
        digest=stored.manifest.digest,
        num_bytes=stored.num_bytes,
        num_files=len(stored.files),
        manifest={
            "format_version": stored.manifest.format_version,
            "kind": stored.manifest.kind,
            "meta": storable(stored.manifest.meta),
        },
    )


def _file_row(artifact: Artifact, file: ManifestFile) -> ArtifactFile:
    return ArtifactFile(
        artifact_id=artifact.id,
        path=file.path,
        project_id=artifact.project_id,
        num_bytes=file.size,
        sha256=file.sha256,
    )
