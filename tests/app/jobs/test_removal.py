"""Jobs that are deleted, and what is left of them, on both databases."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, func, select, update
from sqlalchemy.exc import IntegrityError

from app.artifacts.kinds import ArtifactKind
from app.artifacts.service import Origin, publish_folder
from app.db.base import db_time
from app.db.models import Artifact, ArtifactFile, Event, Job, Step
from app.db.session import in_transaction, read_only, transaction
from app.jobs import service
from app.operations.garbage import collect_garbage
from app.settings import Settings
from app.storage.opening import open_store
from app.storage.store import BLOBS, ObjectStore
from fusion.io.manifest import write_manifest
from tests.app.jobs import builders as given


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings.storage_url)


def run_job(client: TestClient, engine: Engine, store: ObjectStore, folder: Path) -> str:
    """The id of a job that has succeeded, every step with a stored output of its own."""
    job_id: str = client.post("/v1/jobs", json=given.spec_data()).json()["id"]
    while (step := given.try_claim(engine)) is not None:
        output = folder / step.step_id
        output.mkdir()
        (output / "text.txt").write_text(step.name)
        write_manifest(output, kind="output", meta={})
        origin = Origin(
            project_id=step.project_id,
            job_id=step.job_id,
            step_id=step.step_id,
            attempt=step.attempt,
            kind=ArtifactKind.MODEL if step.stage == "publish" else ArtifactKind.OUTPUT,
            role=step.name,
        )
        artifact_id = publish_folder(engine, store, output, origin=origin)
        assert artifact_id is not None
        fence = {"step_id": step.step_id, "attempt": step.attempt}
        in_transaction(engine, service.complete_step, **fence, artifact_id=artifact_id, figures={})
    return job_id


def artifacts(engine: Engine) -> list[str]:
    with read_only(engine) as session:
        return list(session.scalars(select(Artifact.role)))


def num_blobs(store: ObjectStore) -> int:
    return sum(len(page) for page in store.list_objects(BLOBS))


def test_a_deleted_job_is_shown_nowhere(client: TestClient, engine: Engine) -> None:
    job_id = client.post("/v1/jobs", json=given.spec_data(), params={"tag": "a"}).json()["id"]
    given.run_to_end(engine)
    url = f"/v1/jobs/{job_id}"

    deleted = client.delete(url)

    assert deleted.json() == {
        "object": "job",
        "id": job_id,
        "deleted": True,
        "purged": False,
        "freed_bytes": 0,
    }
    asked = [client.get(f"{url}{path}") for path in ("", "/steps", "/events", "/metrics")]
    asked += [client.delete(url), client.patch(url, json={"name": "x"}), client.post(f"{url}/clone")]
    asked += [client.post(f"{url}/{action}") for action in ("cancel", "pause", "resume", "retry")]
    assert {(answer.status_code, answer.json()["code"]) for answer in asked} == {(404, "job_not_found")}
    assert client.get("/v1/jobs").json()["data"] == []
    assert client.get("/v1/jobs", params={"tag": "a"}).json()["data"] == []
    assert client.get("/v1/jobs/counts").json()["total"] == 0
    assert given.events(engine, job_id)[-1].type == "job_deleted"


@pytest.mark.parametrize("state", ["queued", "running", "paused", "cancelling"])
def test_a_job_that_has_not_finished_is_not_deleted(client: TestClient, engine: Engine, state: str) -> None:
    url = f"/v1/jobs/{client.post('/v1/jobs', json=given.spec_data()).json()['id']}"
    if state in ("running", "cancelling"):
        given.claim(engine)
    if state in ("paused", "cancelling"):
        client.post(f"{url}/{'pause' if state == 'paused' else 'cancel'}")

    refused = client.delete(url, params={"purge": True})

    assert (refused.status_code, refused.headers["x-should-retry"]) == (409, "false")
    assert (refused.json()["code"], state in refused.json()["detail"]) == ("job_not_finished", True)
    assert client.get(url).json()["status"] == state


def test_a_job_that_changed_unseen_is_not_deleted(client: TestClient, engine: Engine) -> None:
    url = f"/v1/jobs/{client.post('/v1/jobs', json=given.spec_data()).json()['id']}"
    seen = client.get(url).headers["etag"]
    given.run_to_end(engine)

    assert client.delete(url, headers={"If-Match": seen}).status_code == 412
    assert client.delete(url, headers={"If-Match": client.get(url).headers["etag"]}).status_code == 200


def test_a_purge_leaves_the_registered_model(
    client: TestClient, engine: Engine, store: ObjectStore, settings: Settings, tmp_path: Path
) -> None:
    job_id = run_job(client, engine, store, tmp_path)
    model = client.get("/v1/models").json()["data"][0]
    before = num_blobs(store)

    purged = client.delete(f"/v1/jobs/{job_id}", params={"purge": True}).json()

    assert (purged["purged"], purged["freed_bytes"] > 0) == (True, True)
    assert artifacts(engine) == ["publish"]
    assert num_blobs(store) == 2 < before
    assert client.get(f"/v1/artifacts/{model['artifact_id']}/content?path=text.txt").content == b"publish"

    client.delete(f"/v1/models/{model['id']}")
    report = collect_garbage(engine, store, settings)

    assert artifacts(engine) == []
    assert num_blobs(store) == 0
    assert [item.num for item in report.found if item.kind == "artifact of a purged job"] == [1]
    with read_only(engine) as session:
        assert session.scalar(select(func.count()).select_from(ArtifactFile)) == 0


def test_a_purge_needs_the_scope_for_what_goes_with_it(
    client: TestClient, engine: Engine, store: ObjectStore, tmp_path: Path
) -> None:
    job_id = run_job(client, engine, store, tmp_path)
    made = client.post("/v1/api_keys", json={"name": "k", "scopes": ["jobs:read", "jobs:write"]}).json()
    headers = {"Authorization": f"Bearer {made['secret']}"}
    before = num_blobs(store)

    refused = client.delete(f"/v1/jobs/{job_id}", params={"purge": True}, headers=headers)
    deleted = client.delete(f"/v1/jobs/{job_id}", headers=headers)

    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    assert "artifacts:write" in refused.json()["detail"]
    assert (deleted.status_code, num_blobs(store)) == (200, before)


def test_a_deleted_job_can_still_be_purged(
    client: TestClient, engine: Engine, store: ObjectStore, tmp_path: Path
) -> None:
    url = f"/v1/jobs/{run_job(client, engine, store, tmp_path)}"
    client.delete(url)
    kept = len(artifacts(engine))

    first = client.delete(url, params={"purge": True})
    again = client.delete(url, params={"purge": True})

    assert kept > 1
    assert (first.status_code, again.status_code, again.json()["freed_bytes"]) == (200, 200, 0)
    assert artifacts(engine) == ["publish"]
    types = [event.type for event in given.events(engine, url.rpartition("/")[2])]
    assert (types.count("job_deleted"), types.count("job_purged")) == (1, 1)


def test_the_garbage_collector_ends_a_purge_that_was_cut_off(
    client: TestClient, engine: Engine, store: ObjectStore, settings: Settings, tmp_path: Path
) -> None:
    job_id = run_job(client, engine, store, tmp_path)
    with transaction(engine) as session:
        marks = {"deleted_at": db_time(), "purged_at": db_time()}
        session.execute(update(Job).where(Job.id == job_id).values(**marks))

    dry = collect_garbage(engine, store, settings, dry_run=True)
    assert len(artifacts(engine)) > 1
    done = collect_garbage(engine, store, settings)

    kind = "artifact of a purged job"
    (foreseen,), (removed,) = ([item for item in report.found if item.kind == kind] for report in (dry, done))
    assert foreseen == removed
    assert artifacts(engine) == ["publish"]


def test_bytes_that_another_job_has_too_stay(
    client: TestClient, engine: Engine, store: ObjectStore, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first = run_job(client, engine, store, tmp_path / "one")
    second = run_job(client, engine, store, tmp_path / "two")
    before = num_blobs(store)

    client.delete(f"/v1/jobs/{first}", params={"purge": True})

    assert num_blobs(store) == before
    assert client.get(f"/v1/jobs/{second}").status_code == 200


def test_history_and_attempts_of_a_deleted_job_stay(
    client: TestClient, engine: Engine, store: ObjectStore, settings: Settings
) -> None:
    job_id = client.post("/v1/jobs", json=given.spec_data()).json()["id"]
    given.run_to_end(engine)

    client.delete(f"/v1/jobs/{job_id}")
    collect_garbage(engine, store, settings)

    with read_only(engine) as session:
        for table in (Step, Event):
            assert session.scalar(select(func.count()).where(table.job_id == job_id))


@pytest.mark.parametrize("finished", [False, True])
def test_the_database_refuses_to_hide_what_lives_and_to_wake_what_is_hidden(
    engine: Engine, finished: bool
) -> None:
    job = given.submit_in_new_project(engine)
    hide = update(Job).where(Job.id == job.id).values(deleted_at=db_time())
    if not finished:
        with pytest.raises(IntegrityError), transaction(engine) as session:
            session.execute(hide)
        return
    given.fail(engine, given.claim(engine), given.USER_ERROR)
    with transaction(engine) as session:
        session.execute(hide)

    for values in ({"status": "queued"}, {"deleted_at": None}):
        with pytest.raises(IntegrityError), transaction(engine) as session:
            session.execute(update(Job).where(Job.id == job.id).values(**values))
