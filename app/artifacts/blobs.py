"""Which blobs rows refer to. A blob is shared by every file with its bytes and goes with its last reference.

Recording a reference and deleting a blob both hold the project's row, so that a blob which is about to be
deleted is never taken for one that is there.
"""

from collections.abc import Collection, Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.artifacts.manifest import ManifestFile
from app.db.models import ArtifactFile, File, Project
from app.storage.store import ObjectMissing, ObjectStore, blob_key


def require_blobs(
    session: Session, store: ObjectStore, files: Iterable[ManifestFile], *, project_id: str
) -> None:
    """Check, before rows refer to them, that the blobs are stored; they stay until the transaction ends.

    Raises:
        ObjectMissing: one was deleted since its upload; uploading again mends it.
    """
    _lock_blobs(session, project_id)
    for file in files:
        key = blob_key(project_id=project_id, sha256=file.sha256)
        if store.size(key) != file.size:
            raise ObjectMissing(
                f"{file.path}: its bytes are not in the storage", code="storage_object_missing"
            )


def delete_unreferenced_blobs(
    session: Session, store: ObjectStore, digests: Collection[str], *, project_id: str
) -> int:
    """Delete the blobs that no row refers to, and say how many.

    Call it in a transaction of its own, after the one that removed the rows is committed: a rollback brings
    rows back and blobs not.
    """
    _lock_blobs(session, project_id)
    unreferenced = set(digests) - _referenced(session, digests, project_id=project_id)
    for digest in unreferenced:
        store.delete(blob_key(project_id=project_id, sha256=digest))
    return len(unreferenced)


def _lock_blobs(session: Session, project_id: str) -> None:
    # NO KEY UPDATE on PostgreSQL: rows of the project can still be inserted. SQLite has one writer anyway.
    session.execute(select(Project.id).where(Project.id == project_id).with_for_update(key_share=True))


def _referenced(session: Session, digests: Collection[str], *, project_id: str) -> set[str]:
    in_files = select(File.sha256).where(File.project_id == project_id, File.sha256.in_(digests))
    in_artifacts = select(ArtifactFile.sha256).where(
        ArtifactFile.project_id == project_id, ArtifactFile.sha256.in_(digests)
    )
    return set(session.scalars(in_files.union(in_artifacts)))
