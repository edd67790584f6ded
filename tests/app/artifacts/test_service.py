"""Publishing under the fence, and fetching what was published."""

import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from app.artifacts.blobs import delete_unreferenced_blobs
from app.artifacts.kinds import ArtifactKind
from app.artifacts.service import Origin, fetch_artifact, publish_folder, record_artifact, store_folder
from app.db.models import Artifact, ArtifactFile, Step
from app.db.session import read_only, transaction
from app.storage.asking import StoreSlow
from app.storage.store import ObjectMissing, ObjectStore, blob_key
from fusion.errors import InfrastructureError
from fusion.io.manifest import verify_manifest, write_manifest
from tests.support.api import Api, make_api


@pytest.fixture(params=["file", "s3"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Api:
    url = "" if request.param == "file" else request.getfixturevalue("s3_url")
    return make_api(tmp_path, storage_url=url)


def _folder(path: Path, **contents: bytes) -> Path:
    for name, data in contents.items():
        (path / "part").mkdir(parents=True, exist_ok=True)
        (path / "part" / name).write_bytes(data)
    write_manifest(path, kind="prepared", meta={"loss": float("nan"), "num": 1})
    return path


def _publish(
    api: Api, step: Step, folder: Path, *, attempt: int = 1, role: str = "prepare", kind: str = "output"
) -> str | None:
    origin = _origin(step, attempt=attempt, kind=kind, role=role)
    return publish_folder(api.engine, api.store, folder, origin=origin)


def _origin(step: Step, *, attempt: int = 1, kind: str = "output", role: str = "prepare") -> Origin:
    return Origin(
        project_id=step.project_id,
        job_id=step.job_id,
        step_id=step.id,
        attempt=attempt,
        kind=ArtifactKind(kind),
        role=role,
    )


def _num_artifacts(api: Api) -> int:
    with read_only(api.engine) as session:
        return session.scalar(select(func.count()).select_from(Artifact)) or 0


def test_what_was_published_is_fetched_complete(api: Api, tmp_path: Path) -> None:
    step = api.running_step()
    folder = _folder(tmp_path / "out", a=b"alpha", b=b"", c=os.urandom(3 << 20))

    artifact_id = _publish(api, step, folder)

    assert artifact_id is not None
    fetched = fetch_artifact(api.engine, api.store, artifact_id, tmp_path / "in")
    verify_manifest(fetched)
    assert (fetched / "part" / "c").read_bytes() == (folder / "part" / "c").read_bytes()
    with read_only(api.engine) as session:
        artifact = session.get_one(Artifact, artifact_id)
    assert (artifact.num_files, artifact.attempt, artifact.kind) == (4, 1, "output")
    assert artifact.num_bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert artifact.manifest == {"format_version": 1, "kind": "prepared", "meta": {"loss": None, "num": 1}}


@pytest.mark.parametrize(
    "change", [{"attempt": 2}, {"status": "queued"}, {"status": "cancelled"}, {"status": "succeeded"}]
)
def test_a_stale_attempt_publishes_nothing(api: Api, tmp_path: Path, change: dict[str, object]) -> None:
    step = api.running_step()
    with transaction(api.engine) as session:
        session.execute(update(Step).where(Step.id == step.id).values(**change))

    assert _publish(api, step, _folder(tmp_path / "out", a=b"alpha")) is None
    assert _num_artifacts(api) == 0


def test_publishing_again_keeps_the_artifact(api: Api, tmp_path: Path) -> None:
    step = api.running_step()
    folder = _folder(tmp_path / "out", a=b"alpha")

    assert _publish(api, step, folder) == _publish(api, step, folder)
    assert _num_artifacts(api) == 1


def test_a_part_that_is_made_again_replaces_the_old_one(api: Api, tmp_path: Path) -> None:
    step = api.running_step()
    first = _publish(api, step, _folder(tmp_path / "1", a=b"old"), kind="checkpoint", role="shard-00000")
    other = _publish(api, step, _folder(tmp_path / "2", a=b"else"), kind="checkpoint", role="shard-00001")

    second = _publish(api, step, _folder(tmp_path / "3", a=b"new"), kind="checkpoint", role="shard-00000")

    with read_only(api.engine) as session:
        assert set(session.scalars(select(Artifact.id))) == {other, second}
        assert first not in set(session.scalars(select(ArtifactFile.artifact_id)))


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_a_folder_that_differs_from_its_manifest_is_not_published(
    api: Api, tmp_path: Path, damage: str
) -> None:
    step, folder = api.running_step(), _folder(tmp_path / "out", a=b"alpha")
    file = folder / "part" / "a"
    match damage:
        case "missing":
            file.unlink()
        case "truncated":
            file.write_bytes(b"alph")
        case "flipped":
            file.write_bytes(b"alphb")

    with pytest.raises(InfrastructureError, match="part/a"):
        _publish(api, step, folder)

    assert _num_artifacts(api) == 0


def test_rows_never_refer_to_bytes_that_are_gone(api: Api, tmp_path: Path) -> None:
    step = api.running_step()
    stored = store_folder(api.store, _folder(tmp_path / "out", a=b"alpha"), project_id=step.project_id)
    api.store.delete(blob_key(project_id=step.project_id, sha256=stored.files[0].sha256))

    with pytest.raises(ObjectMissing), transaction(api.engine) as session:
        record_artifact(session, api.store, stored, origin=_origin(step))

    assert _num_artifacts(api) == 0


def test_a_transaction_asks_the_store_only_for_what_no_row_refers_to(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = api.running_step()
    _publish(api, step, _folder(tmp_path / "1", a=b"shared", b=b"too"), kind="checkpoint", role="one")
    stored = store_folder(
        api.store, _folder(tmp_path / "2", a=b"shared", b=b"too", c=b"new"), project_id=step.project_id
    )
    asked: list[str] = []

    def sizes_of(store: ObjectStore, keys: Sequence[str], *, within_seconds: float) -> list[int | None]:
        asked.extend(keys)
        return [store.size(key) for key in keys]

    monkeypatch.setattr("app.artifacts.blobs.sizes_of", sizes_of)
    with transaction(api.engine) as session:
        assert record_artifact(session, api.store, stored, origin=_origin(step))

    new = {file.sha256 for file in stored.files if file.path in ("part/c", "manifest.json")}
    assert sorted(asked) == sorted(blob_key(project_id=step.project_id, sha256=digest) for digest in new)


def test_a_store_that_does_not_answer_ends_the_transaction(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = api.running_step()
    stored = store_folder(api.store, _folder(tmp_path / "out", a=b"alpha"), project_id=step.project_id)
    hanging = threading.Event()
    monkeypatch.setattr("app.artifacts.blobs._STORE_SECONDS", 0.1)
    monkeypatch.setattr(type(api.store), "size", lambda *_: hanging.wait())

    with pytest.raises(StoreSlow), transaction(api.engine) as session:
        record_artifact(session, api.store, stored, origin=_origin(step))
    hanging.set()

    assert _num_artifacts(api) == 0


def test_only_blobs_without_a_row_are_deleted(api: Api, tmp_path: Path) -> None:
    step = api.running_step()
    _publish(api, step, _folder(tmp_path / "1", a=b"used"))
    used = store_folder(api.store, tmp_path / "1", project_id=step.project_id).files[0].sha256
    unused = store_folder(api.store, _folder(tmp_path / "2", a=b"unused"), project_id=step.project_id)

    with transaction(api.engine) as session:
        deleted = delete_unreferenced_blobs(
            session, api.store, {used, unused.files[0].sha256}, project_id=step.project_id
        )

    assert deleted == {unused.files[0].sha256}
    assert api.store.size(blob_key(project_id=step.project_id, sha256=used)) == 4
    assert api.store.size(blob_key(project_id=step.project_id, sha256=unused.files[0].sha256)) is None


def test_damaged_bytes_are_an_error_and_never_an_input(api: Api, tmp_path: Path) -> None:
    step = api.running_step()
    artifact_id = _publish(api, step, _folder(tmp_path / "out", a=b"alpha"))
    with read_only(api.engine) as session:
        file = session.scalars(select(ArtifactFile).where(ArtifactFile.path == "part/a")).one()
    key = blob_key(project_id=step.project_id, sha256=file.sha256)
    api.store.delete(key)
    (tmp_path / "wrong").write_bytes(b"alphb")
    api.store.put_file(key, tmp_path / "wrong", sha256=hashlib.sha256(b"alphb").hexdigest())

    with pytest.raises(InfrastructureError) as caught:
        fetch_artifact(api.engine, api.store, artifact_id or "", tmp_path / "in")

    assert caught.value.code == "storage_object_damaged"
    assert not (tmp_path / "in" / "part" / "a").exists()


def test_an_unknown_artifact_cannot_be_fetched(api: Api, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="no artifact"):
        fetch_artifact(api.engine, api.store, "art-nothing", tmp_path / "in")
