"""Which blobs rows refer to. A blob is shared by every file with its bytes and goes with its last reference.

Recording a reference holds the project's row shared, deleting a blob holds it alone, so that a blob which is
about to be deleted is never taken for one that is there.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from sqlalchemy import Engine, select, union
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.artifacts.manifest import ManifestFile
from app.db.models import Artifact, ArtifactFile, File, Project, UploadPart
from app.db.session import read_only, transaction
from app.storage.asking import StoreSlow, sizes_of
from app.storage.store import ObjectMissing, ObjectStore, blob_key
from fusion.failpoints import failpoint

StoredT = TypeVar("StoredT")
ResultT = TypeVar("ResultT")

REFERENCES: Final[tuple[tuple[InstrumentedAttribute[str], InstrumentedAttribute[str]], ...]] = (
    (File.project_id, File.sha256),
    (ArtifactFile.project_id, ArtifactFile.sha256),
    (UploadPart.project_id, UploadPart.sha256),
)
"""Columns (project, digest) that refer to blobs: what none of them names is garbage."""
_ROWS_AT_ONCE: Final = 500
_QUICK_TRIES: Final = 2
_STORE_SECONDS: Final = 10.0
"""How long a transaction may wait for answers of the store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferencedBlob:
    """A blob, and for people the name of one thing that refers to it."""

    project_id: str
    sha256: str
    num_bytes: int
    owner: str

    @property
    def key(self) -> str:
        return blob_key(project_id=self.project_id, sha256=self.sha256)


def every_blob(engine: Engine) -> list[ReferencedBlob]:
    """Every blob that a row refers to, once."""
    found: dict[tuple[str, str], ReferencedBlob] = {}

    def add(row: File | ArtifactFile | UploadPart, owner: str) -> None:
        found[row.project_id, row.sha256] = ReferencedBlob(
            project_id=row.project_id, sha256=row.sha256, num_bytes=row.num_bytes, owner=owner
        )

    with read_only(engine) as session:
        for file in session.scalars(select(File).execution_options(yield_per=_ROWS_AT_ONCE)):
            add(file, f"file {file.id}")
        for part in session.scalars(select(UploadPart).execution_options(yield_per=_ROWS_AT_ONCE)):
            add(part, f"part {part.id} of {part.upload_id}")
        query = select(ArtifactFile, Artifact.kind).join(Artifact, Artifact.id == ArtifactFile.artifact_id)
        for row, kind in session.execute(query.execution_options(yield_per=_ROWS_AT_ONCE)):
            add(row, f"{kind} {row.artifact_id}, {row.path}")
    return list(found.values())


def store_and_record(
    engine: Engine,
    store: Callable[[], StoredT],
    record: Callable[[Session, StoredT], ResultT],
) -> ResultT:
    """Put bytes, then record them in one transaction; both again when the bytes went away in between.

    Bytes that were there already, and that nothing referred to any more, can be collected at that moment. The
    last try stores once more while it keeps collectors out: the only time that bytes move in a transaction.

    Args:
        record: raises what `require_blobs` raises before it writes anything.
    """
    for _ in range(_QUICK_TRIES):
        stored = store()
        failpoint("bytes.stored")
        try:
            with transaction(engine) as session:
                return record(session, stored)
        except (ObjectMissing, StoreSlow):
            continue
    stored = store()
    with transaction(engine) as session:
        try:
            return record(session, stored)
        except ObjectMissing:
            # By now this transaction holds all that `record` locks, and collectors are out. The project's row
            # came last, as for everybody: taking it first could end in a deadlock.
            return record(session, store())


def require_blobs(
    session: Session, store: ObjectStore, files: Iterable[ManifestFile], *, project_id: str
) -> None:
    """Check, before rows refer to them, that the blobs are stored; they stay until the transaction ends.

    Those that a row refers to are not asked for: with collectors out they stay. The others are, side by side
    and not for long, because whoever wants the locks of this transaction (a heartbeat, a cancel) waits.

    Raises:
        ObjectMissing: one was deleted since its upload; uploading again mends it.
        StoreSlow: the store did not answer in time.
    """
    _keep_blobs(session, project_id)
    wanted = {file.sha256: file for file in files}
    for digest in referenced_digests(session, wanted, project_id=project_id):
        del wanted[digest]
    keys = [blob_key(project_id=project_id, sha256=digest) for digest in wanted]
    found = sizes_of(store, keys, within_seconds=_STORE_SECONDS)
    for file, size in zip(wanted.values(), found, strict=True):
        if size != file.size:
            raise ObjectMissing(
                f"{file.path}: its bytes are not in the storage", code="storage_object_missing"
            )


def delete_unreferenced_blobs(
    session: Session, store: ObjectStore, digests: Collection[str], *, project_id: str
) -> set[str]:
    """Delete the blobs that no row refers to; their digests.

    Call it in a transaction of its own, after the one that removed the rows is committed: a rollback brings
    rows back and blobs not.
    """
    if not lock_blobs(session, project_id):
        return set()
    unreferenced = set(digests) - referenced_digests(session, digests, project_id=project_id)
    if unreferenced:
        # A process that was frozen since it took the lock may have lost it with its connection: ask again.
        session.execute(select(1))
        store.delete(*(blob_key(project_id=project_id, sha256=digest) for digest in unreferenced))
        failpoint("garbage.deleted")
    return unreferenced


def _keep_blobs(session: Session, project_id: str) -> None:
    # Shared: uploads of one project do not wait for each other, only for a deletion.
    session.execute(select(Project.id).where(Project.id == project_id).with_for_update(read=True))


def lock_blobs(session: Session, project_id: str) -> bool:
    """Keep everybody from recording references until the transaction ends; False for an unknown project."""
    # NO KEY UPDATE on PostgreSQL: rows of the project can still be inserted. SQLite has one writer anyway.
    query = select(Project.id).where(Project.id == project_id).with_for_update(key_share=True)
    return session.scalar(query) is not None


def referenced_digests(
    session: Session, digests: Collection[str], *, project_id: str, besides: Collection[str] = ()
) -> set[str]:
    """Those of the digests that a row of the project refers to, `besides` the rows of certain artifacts."""
    named = [
        select(digest).where(
            project == project_id, digest.in_(digests), ArtifactFile.artifact_id.not_in(besides)
        )
        if digest is ArtifactFile.sha256
        else select(digest).where(project == project_id, digest.in_(digests))
        for project, digest in REFERENCES
    ]
    return set(session.scalars(union(*named)))
