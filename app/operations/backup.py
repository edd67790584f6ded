"""A consistent copy of an embedded service while it runs: first the database, then the bytes it refers to.

Bytes never change and are collected only once no row names them. So whatever the copied database refers to is
still there, but for what was deleted since; the copy forgets that, too, and is complete.
"""

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, delete, select
from sqlalchemy.engine import make_url

from app.accounts.secret_files import write_secret
from app.artifacts import repository
from app.artifacts.blobs import ReferencedBlob, every_blob, referenced_digests
from app.db.models import ArtifactFile, File, UploadPart
from app.db.session import create_engine, read_only, transaction
from app.settings import Settings
from app.storage.digests import FileDamaged
from app.storage.links import sync
from app.storage.opening import open_store
from app.storage.store import ObjectDamaged, ObjectMissing, ObjectStore
from fusion.errors import UserError

_ADMIN_KEY = "admin.key"


@dataclass(frozen=True, kw_only=True, slots=True)
class BackupReport:
    """What was copied."""

    num_blobs: int
    num_bytes: int


def back_up(settings: Settings, *, into: Path) -> BackupReport:
    """Copy database, secrets and stored files to a new folder that has the shape of a data folder.

    Raises:
        UserError: the database is not SQLite, or the folder exists.
        ObjectDamaged, ObjectMissing: stored bytes are wrong or gone; the copy is removed again.
    """
    url = make_url(settings.database_url)
    if url.get_backend_name() != "sqlite":
        raise UserError(
            "`fusion backup` copies a service on SQLite",
            code="backup_not_sqlite",
            hint="use pg_dump and a copy of the bucket, in the order that docs/backup.md gives",
        )
    try:
        into.mkdir(parents=True, mode=0o700)
    except FileExistsError as error:
        raise UserError(f"{into} exists", code="backup_exists", hint="give a new folder") from error
    try:
        return _copy(settings, Path(url.database or ""), into=into)
    except BaseException:
        shutil.rmtree(into, ignore_errors=True)
        raise


def _copy(settings: Settings, database: Path, *, into: Path) -> BackupReport:
    copied_database = into / "fusion.db"
    _copy_database(database, copied_database)
    _copy_secrets(settings, into=into)
    live, copied = create_engine(settings.database_url), create_engine(f"sqlite:///{copied_database}")
    try:
        store, target = open_store(settings.storage_url), open_store((into / "storage").as_uri())
        num_blobs = num_bytes = 0
        for blob in every_blob(copied):
            if _copy_blob(store, target, blob, scratch=into / ".scratch"):
                num_blobs, num_bytes = num_blobs + 1, num_bytes + blob.num_bytes
            elif _is_referenced(live, blob):
                raise ObjectMissing(f"{blob.owner}: its bytes are missing", code="storage_object_missing")
            else:
                _forget(copied, blob)
    finally:
        live.dispose()
        copied.dispose()
    sync(into)
    return BackupReport(num_blobs=num_blobs, num_bytes=num_bytes)


def _copy_database(source: Path, destination: Path) -> None:
    """SQLite's online backup: one consistent state, whoever writes meanwhile."""
    with (
        closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True, timeout=30)) as live,
        closing(sqlite3.connect(destination)) as copied,
    ):
        live.backup(copied)
    destination.chmod(0o600)
    sync(destination)


def _copy_secrets(settings: Settings, *, into: Path) -> None:
    """Pepper and sealing key, without which keys and secrets are void, and `fusion serve`'s admin key."""
    for file, name in ((settings.key_pepper_file, "key_pepper"), (settings.sealing_key_file, "sealing_key")):
        if file.is_file():
            write_secret(into / "secrets" / name, file.read_text())
    admin_key = settings.data_dir / _ADMIN_KEY
    if admin_key.is_file():
        write_secret(into / _ADMIN_KEY, admin_key.read_text())


def _copy_blob(store: ObjectStore, target: ObjectStore, blob: ReferencedBlob, *, scratch: Path) -> bool:
    """Copy one blob; False when it is not there. A real copy: a link would share the fate of the disk."""
    try:
        with scratch.open("wb") as file:
            for piece in store.open_range(blob.key, start=0, end=blob.num_bytes):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        target.put_file(blob.key, scratch, sha256=blob.sha256)
    except ObjectMissing:
        return False
    except FileDamaged as error:
        raise ObjectDamaged(
            f"{blob.owner}: the stored bytes are not those of {blob.sha256}",
            code="storage_object_damaged",
            hint="mend it first: `fusion doctor --verify-artifacts` names everything that is damaged",
        ) from error
    finally:
        scratch.unlink(missing_ok=True)
    return True


def _is_referenced(engine: Engine, blob: ReferencedBlob) -> bool:
    with read_only(engine) as session:
        return bool(referenced_digests(session, [blob.sha256], project_id=blob.project_id))


def _forget(engine: Engine, blob: ReferencedBlob) -> None:
    """Remove from the copy what was deleted in the meantime."""
    of_blob = (ArtifactFile.project_id == blob.project_id, ArtifactFile.sha256 == blob.sha256)
    with transaction(engine) as session:
        artifact_ids = list(session.scalars(select(ArtifactFile.artifact_id).where(*of_blob).distinct()))
        repository.remove_artifacts(session, artifact_ids)
        for table in (File, UploadPart):
            session.execute(
                delete(table).where(table.project_id == blob.project_id, table.sha256 == blob.sha256)
            )
