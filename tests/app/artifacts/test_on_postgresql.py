"""What only PostgreSQL can show: transactions that really run side by side."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from app.artifacts import repository
from app.artifacts.blobs import delete_unreferenced_blobs, require_blobs
from app.artifacts.kinds import ArtifactKind
from app.artifacts.manifest import describe_file
from app.artifacts.service import Origin, fetch_artifact, publish_folder
from app.db.fence import hold_step
from app.db.models import File, Step
from app.db.session import transaction
from app.storage.store import blob_key
from fusion.io.manifest import verify_manifest, write_manifest
from tests.support.api import Api, make_api

WAIT_SECONDS = 0.3


@pytest.fixture
def api(tmp_path: Path, postgres_database: str) -> Iterator[Api]:
    api = make_api(tmp_path, database_url=postgres_database)
    yield api
    api.engine.dispose()


def test_publish_fetch_upload_and_delete(api: Api, tmp_path: Path) -> None:
    step = api.running_step(spec={"text": "NUL comes from children \ufffd"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_bytes(b"alpha")
    write_manifest(tmp_path / "out", kind="prepared", meta={"loss": float("inf"), "note": "a\0b"})

    artifact_id = publish_folder(
        api.engine,
        api.store,
        tmp_path / "out",
        origin=Origin(
            project_id=step.project_id,
            job_id=step.job_id,
            step_id=step.id,
            attempt=1,
            kind=ArtifactKind.OUTPUT,
            role="prepare",
        ),
    )

    verify_manifest(fetch_artifact(api.engine, api.store, artifact_id or "", tmp_path / "in"))
    file = api.client.post("/v1/files?filename=a.txt", content=b"text", headers=api.headers).json()
    api.running_step(spec={"file_id": file["id"]})
    url = f"/v1/files/{file['id']}"
    assert api.client.delete(url, headers=api.headers).status_code == 409
    with transaction(api.engine) as session:
        repository.remove_artifacts(session, [artifact_id or ""])
        session.execute(delete(File))
    assert api.client.get(url, headers=api.headers).status_code == 404


def test_a_step_cannot_be_taken_away_while_its_rows_are_written(api: Api) -> None:
    step, held = api.running_step(), threading.Event()
    order: list[str] = []

    def take_away() -> None:
        held.wait()
        with transaction(api.engine) as session:
            session.execute(update(Step).where(Step.id == step.id).values(status="queued"))
            order.append("taken")

    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(take_away)
        with transaction(api.engine) as session:
            assert hold_step(session, step_id=step.id, attempt=1)
            held.set()
            threading.Event().wait(WAIT_SECONDS)
            order.append("written")
        taking.result()

    assert order == ["written", "taken"]


def test_bytes_are_not_deleted_under_a_row_that_is_being_written(api: Api, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"alpha")
    described, project_id = describe_file(tmp_path, "a"), api.principal.project_id
    key = blob_key(project_id=project_id, sha256=hashlib.sha256(b"alpha").hexdigest())
    api.store.put_file(key, tmp_path / "a", sha256=described.sha256)
    checked = threading.Event()

    def delete_blob() -> set[str]:
        checked.wait()
        with transaction(api.engine) as session:
            return delete_unreferenced_blobs(session, api.store, {described.sha256}, project_id=project_id)

    with ThreadPoolExecutor(1) as pool:
        deleting = pool.submit(delete_blob)
        with transaction(api.engine) as session:
            require_blobs(session, api.store, [described], project_id=project_id)
            checked.set()
            threading.Event().wait(WAIT_SECONDS)
            row = File(
                project_id=project_id,
                filename="a",
                purpose="corpus",
                num_bytes=5,
                sha256=described.sha256,
                status="processed",
            )
            session.add(row)
        assert deleting.result() == set()

    assert api.store.size(key) == 5
