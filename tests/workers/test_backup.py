"""A backup that is taken while work runs brings back what was finished and lets the rest go on."""

import hashlib
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import make_url, select

from app.accounts.bootstrap import ensure_admin_key
from app.artifacts import repository
from app.artifacts.blobs import delete_unreferenced_blobs
from app.artifacts.service import fetch_artifact
from app.db.models import ArtifactFile
from app.db.session import create_engine, in_transaction, read_only, transaction
from app.jobs.reconcile import reconcile
from app.main import create_app
from app.operations import backup
from app.operations.backup import back_up
from app.operations.doctor.examination import examine
from app.operations.doctor.findings import Level
from app.settings import Settings
from app.storage.opening import open_store
from app.storage.store import ObjectDamaged
from fusion.errors import UserError
from fusion.io.manifest import verify_manifest
from tests.support.object_store import s3_client
from tests.support.services import create_database, drop_database
from tests.workers.conftest import Workshop
from workers.step_runner import run_one, run_until_idle

WAIT_SECONDS = 60.0
LEASE = {"lease_seconds": 2, "heartbeat_seconds": 0.5}


class Work:
    """A finished job, and one in whose first step a worker is busy after its first part."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.finished = workshop.submit()
        run_until_idle(workshop.playing("work").worker)
        self.running = workshop.submit()
        self._thread = workshop.playing("resumable").run_one_in_background()
        deadline = time.monotonic() + WAIT_SECONDS
        while not workshop.artifacts(self.running, "checkpoint"):
            assert time.monotonic() < deadline, "no part was published"
            time.sleep(0.05)
        self.model = self._digests()

    def destroy(self) -> None:
        """Nothing of the service is left, but for what a backup holds."""
        self.workshop.worker.drain.set()
        self._thread.join()
        self.workshop.worker.engine.dispose()
        shutil.rmtree(self.workshop.worker.settings.data_dir)

    def check(self, restored: Workshop) -> None:
        """What was finished downloads with the right digests; what ran goes on from its part to the end."""
        assert restored.job(self.finished).status == "succeeded"
        assert self._downloads(restored) == self.model
        step = restored.steps(self.running)["prepare"]
        assert (step.status, step.attempt) == ("running", 1)

        time.sleep(LEASE["lease_seconds"] + 0.5)
        in_transaction(restored.worker.engine, reconcile)
        assert run_one(restored.playing("resumable").worker)
        assert restored.steps(self.running)["prepare"].status == "succeeded"
        run_until_idle(restored.playing("work").worker)

        assert restored.job(self.running).status == "succeeded"
        findings = examine(restored.worker.settings, verify_artifacts=True)
        assert [finding for finding in findings if finding.level is Level.ERROR] == []

    def _digests(self) -> dict[str, str]:
        (model,) = self.workshop.artifacts(self.finished, "model")
        with read_only(self.workshop.worker.engine) as session:
            files = session.scalars(select(ArtifactFile).where(ArtifactFile.artifact_id == model.id))
            return {file.path: file.sha256 for file in files}

    def _downloads(self, restored: Workshop) -> dict[str, str]:
        (model,) = restored.artifacts(self.finished, "model")
        settings = restored.worker.settings
        app = create_app(settings)
        key = ensure_admin_key(
            app.state.engine, path=settings.data_dir / "admin.key", pepper=app.state.key_pepper
        )
        client = TestClient(app, headers={"Authorization": f"Bearer {key}"})
        url = f"/v1/artifacts/{model.id}/content"
        found = {
            path: hashlib.sha256(client.get(url, params={"path": path}).content).hexdigest()
            for path in self.model
        }
        app.state.engine.dispose()
        return found


def test_an_embedded_service_comes_back(make_workshop: Callable[..., Workshop], tmp_path: Path) -> None:
    work = Work(make_workshop(**LEASE))
    settings = work.workshop.worker.settings
    app = create_app(settings)
    key = ensure_admin_key(
        app.state.engine, path=settings.data_dir / "admin.key", pepper=app.state.key_pepper
    )
    app.state.engine.dispose()

    back_up(settings, into=tmp_path / "backup")
    work.destroy()
    (tmp_path / "backup").rename(settings.data_dir)

    work.check(make_workshop(**LEASE))
    assert (settings.data_dir / "admin.key").read_text().strip() == key


def test_a_production_service_comes_back(
    make_workshop: Callable[..., Workshop], postgres_server: str, s3_url: str, s3_server: str, tmp_path: Path
) -> None:
    assert shutil.which("pg_dump"), "PostgreSQL's client programs are not installed"
    database, client = create_database(postgres_server), s3_client(s3_server)
    bucket, saved = s3_url.split("/")[2], f"{s3_url.split('/')[2]}-saved"
    client.create_bucket(Bucket=saved)
    work = Work(make_workshop(database_url=database, storage_url=s3_url, **LEASE))

    # Database first: bytes never change, so the bucket copied later holds all that the dump refers to.
    on_server("pg_dump", database, "--format=custom", "--file", str(tmp_path / "dump"))
    copy_bucket(client, bucket, saved)
    work.destroy()
    drop_database(postgres_server, database)
    for item in client.list_objects_v2(Bucket=bucket)["Contents"]:
        client.delete_object(Bucket=bucket, Key=item["Key"])

    restored = create_database(postgres_server)
    on_server("pg_restore", restored, "--no-owner", "--exit-on-error", str(tmp_path / "dump"))
    copy_bucket(client, saved, bucket)
    workshop = make_workshop(database_url=restored, storage_url=s3_url, **LEASE)
    work.check(workshop)
    workshop.worker.engine.dispose()
    drop_database(postgres_server, restored)


def test_what_is_deleted_during_the_backup_is_not_in_it(
    make_workshop: Callable[..., Workshop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = make_workshop()
    job_id = workshop.submit()
    run_until_idle(workshop.playing("work").worker)
    (gone, *_), (model,) = workshop.artifacts(job_id, "output"), workshop.artifacts(job_id, "model")
    store, engine = workshop.worker.store, workshop.worker.engine

    copy_secrets = backup._copy_secrets

    def delete_meanwhile(settings: Settings, *, into: Path) -> None:
        copy_secrets(settings, into=into)
        with transaction(engine) as session:
            files = repository.files_of(session, gone.id)
            repository.remove_artifacts(session, [gone.id])
        digests = [file.sha256 for file in files]
        with transaction(engine) as session:
            assert delete_unreferenced_blobs(session, store, digests, project_id=gone.project_id)

    monkeypatch.setattr(backup, "_copy_secrets", delete_meanwhile)

    back_up(workshop.worker.settings, into=tmp_path / "backup")

    copied = Settings(data_dir=tmp_path / "backup")
    findings = examine(copied, verify_artifacts=True)
    assert [finding for finding in findings if finding.level is Level.ERROR] == []
    restored = create_engine(copied.database_url)
    with read_only(restored) as session:
        assert repository.files_of(session, gone.id) == []
    verify_manifest(fetch_artifact(restored, open_store(copied.storage_url), model.id, tmp_path / "in"))
    restored.dispose()


@pytest.mark.parametrize("problem", ["exists", "postgresql", "damaged"])
def test_a_backup_that_cannot_be_right_is_refused_and_leaves_nothing(
    make_workshop: Callable[..., Workshop], tmp_path: Path, problem: str
) -> None:
    workshop = make_workshop()
    workshop.submit()
    run_one(workshop.playing("work").worker)
    settings, into = workshop.worker.settings, tmp_path / "backup"
    if problem == "exists":
        into.mkdir()
    if problem == "postgresql":
        settings = settings.model_copy(update={"database_url": "postgresql+psycopg://host/fusion"})
    if problem == "damaged":
        blob = next(path for path in (settings.data_dir / "storage").rglob("*") if path.is_file())
        blob.chmod(0o600)
        blob.write_bytes(bytes(blob.stat().st_size))

    with pytest.raises(ObjectDamaged if problem == "damaged" else UserError) as caught:
        back_up(settings, into=into)

    assert caught.value.hint
    assert into.exists() is (problem == "exists")


def on_server(program: str, database_url: str, *options: str) -> None:
    """Run a client program of PostgreSQL against a database of the tests' own server."""
    url = make_url(database_url)
    where = ["--host", str(url.host), "--port", str(url.port), "--username", str(url.username)]
    subprocess.run([program, *where, "--dbname", str(url.database), *options], check=True)


def copy_bucket(client: Any, source: str, destination: str) -> None:
    """What `aws s3 sync` does."""
    for item in client.list_objects_v2(Bucket=source)["Contents"]:
        where = {"Bucket": source, "Key": item["Key"]}
        client.copy_object(Bucket=destination, Key=item["Key"], CopySource=where)
