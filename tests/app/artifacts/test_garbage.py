"""Garbage collection deletes only garbage: alone, against publishing, and in any order of events."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import select, update

from app.artifacts import repository
from app.artifacts.blobs import REFERENCES, require_blobs
from app.artifacts.garbage import drop_finished_parts, sweep_blobs
from app.artifacts.kinds import ArtifactKind
from app.artifacts.service import Origin, fetch_artifact, publish_folder, store_folder
from app.catalog.leftovers import sweep_uploads
from app.db.base import Base, db_time
from app.db.models import Artifact, Job, Step
from app.db.session import read_only, transaction
from app.jobs.repository import lock_job
from app.storage.store import BLOBS, blob_key
from fusion.io.manifest import verify_manifest, write_manifest
from tests.support.api import Api, make_api

NUM_CYCLES = int(os.environ.get("FUSION_TEST_GC_CYCLES", "500"))
"""Rounds of garbage collection while others publish; a long run takes thousands."""


@pytest.fixture(params=["sqlite", "postgresql"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Api]:
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    api = make_api(tmp_path, database_url=url)
    yield api
    api.engine.dispose()


def folder_with(path: Path, *contents: bytes) -> Path:
    path.mkdir(parents=True)
    for number, data in enumerate(contents):
        (path / str(number)).write_bytes(data)
    write_manifest(path, kind="thing")
    return path


def publish(api: Api, step: Step, folder: Path, *, kind: str = "output", role: str = "role") -> str:
    artifact_id = publish_folder(
        api.engine,
        api.store,
        folder,
        origin=Origin(
            project_id=step.project_id,
            job_id=step.job_id,
            step_id=step.id,
            attempt=step.attempt,
            kind=ArtifactKind(kind),
            role=role,
        ),
    )
    assert artifact_id is not None
    return artifact_id


def stored_keys(api: Api) -> set[str]:
    return {item.key for page in api.store.list_objects(BLOBS) for item in page}


def remove(api: Api, artifact_id: str) -> None:
    with transaction(api.engine) as session:
        repository.remove_artifacts(session, [artifact_id])


def end(api: Api, step: Step, *, status: str, seconds_ago: float) -> None:
    """The step ended in `status`, and its job with it, some time ago."""
    with transaction(api.engine) as session:
        session.execute(update(Step).where(Step.id == step.id).values(status=status))
        ended = {"status": status, "finished_at": db_time(-seconds_ago)}
        session.execute(update(Job).where(Job.id == step.job_id).values(**ended))


def test_every_column_with_a_digest_of_stored_bytes_counts_as_a_reference() -> None:
    """A new table that refers to blobs must be named in REFERENCES, or its bytes would be collected."""
    counted = {(column.class_.__tablename__, column.key) for _, column in REFERENCES}

    assert counted == {
        (table.name, column.name)
        for table in Base.metadata.tables.values()
        for column in table.columns
        if column.name.endswith("sha256")
    }


def test_only_what_no_row_names_is_deleted(api: Api, tmp_path: Path) -> None:
    step = api.running_step()
    kept = publish(api, step, folder_with(tmp_path / "kept", b"kept", b"shared"))
    before = stored_keys(api)
    remove(api, publish(api, step, folder_with(tmp_path / "gone", b"gone", b"shared"), role="gone"))
    store_folder(api.store, folder_with(tmp_path / "no-row", b"no row"), project_id=step.project_id)

    would_be = sweep_blobs(api.engine, api.store, grace_seconds=0, dry_run=True)
    assert len(stored_keys(api)) == len(before) + 4
    done = sweep_blobs(api.engine, api.store, grace_seconds=0)

    assert would_be == done
    assert (done[0].num, done[1].num) == (4, 0)
    assert stored_keys(api) == before
    verify_manifest(fetch_artifact(api.engine, api.store, kept, tmp_path / "in"))
    assert sweep_blobs(api.engine, api.store, grace_seconds=0)[0].num == 0


def test_what_is_young_is_kept_however_old_its_file_is(api: Api, tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "out", b"written long ago")
    os.utime(folder / "0", (0, 0))
    store_folder(api.store, folder, project_id=api.principal.project_id)

    assert sweep_blobs(api.engine, api.store, grace_seconds=3600)[0].num == 0
    assert sweep_blobs(api.engine, api.store, grace_seconds=0)[0].num == 2


def test_halves_go_and_strangers_stay(api: Api) -> None:
    root = api.settings.data_dir / "storage"
    half, running = (f"{BLOBS}/{api.principal.project_id}/ab/.{digit * 32}.partial" for digit in "01")
    strangers = {blob_key(project_id="proj-of-another-service", sha256="cd" * 32), f"{BLOBS}/readme"}
    for key in (half, running, *strangers):
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(b"12345")
    os.utime(root / half, (0, 0))

    blobs, halves = sweep_blobs(api.engine, api.store, grace_seconds=0)

    assert (blobs.num, halves.num, halves.num_bytes) == (0, 1, 5)
    assert stored_keys(api) == {running, *strangers}


@pytest.mark.parametrize(
    ("status", "seconds_ago", "is_dropped"),
    [("running", 0, False), ("succeeded", 0, True), ("failed", 60, False), ("failed", 7200, True)],
)
def test_parts_go_once_nothing_continues_from_them(
    api: Api, tmp_path: Path, status: str, seconds_ago: float, is_dropped: bool
) -> None:
    step = api.running_step()
    publish(api, step, folder_with(tmp_path / "out", b"shard"))
    publish(api, step, folder_with(tmp_path / "part", b"shard", b"only in the part"), kind="checkpoint")
    if status != "running":
        end(api, step, status=status, seconds_ago=seconds_ago)
    num_before = len(stored_keys(api))

    would_be = drop_finished_parts(api.engine, api.store, failed_kept_seconds=3600, dry_run=True)
    done = drop_finished_parts(api.engine, api.store, failed_kept_seconds=3600)

    assert would_be == done
    assert done.num == is_dropped
    # The shard itself belongs to the output, too; what goes is the other file and the part's manifest.
    assert num_before - len(stored_keys(api)) == 2 * is_dropped
    assert (done.num_bytes > 0) is is_dropped


def test_parts_of_a_job_that_somebody_writes_to_are_left_for_the_next_round(
    tmp_path: Path, postgres_database: str
) -> None:
    api = make_api(tmp_path, database_url=postgres_database)
    step = api.running_step()
    publish(api, step, folder_with(tmp_path / "part", b"shard"), kind="checkpoint")
    end(api, step, status="failed", seconds_ago=7200)

    with transaction(api.engine) as session:
        lock_job(session, step.job_id)  # as a retry begins
        meanwhile = drop_finished_parts(api.engine, api.store, failed_kept_seconds=3600)
    afterwards = drop_finished_parts(api.engine, api.store, failed_kept_seconds=3600)
    api.engine.dispose()

    assert (meanwhile.num, afterwards.num) == (0, 1)


def test_halves_of_uploads_go_when_they_stop_growing(tmp_path: Path) -> None:
    (tmp_path / "upload-dead").write_bytes(b"123")
    os.utime(tmp_path / "upload-dead", (0, 0))
    (tmp_path / "upload-running").write_bytes(b"1234")
    (tmp_path / "something-else").write_bytes(b"1")

    would_be = sweep_uploads(tmp_path, grace_seconds=60, dry_run=True)
    done = sweep_uploads(tmp_path, grace_seconds=60)

    assert would_be == done
    assert (done.num, done.num_bytes) == (1, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["something-else", "upload-running"]


def test_no_published_byte_is_lost_while_garbage_is_collected_without_grace(api: Api, tmp_path: Path) -> None:
    """Publishers of the same few contents, deletions and two collectors: the worst case of deduplication."""
    step, stop, cycles = api.running_step(), threading.Event(), [0, 0]

    def collect(number: int) -> None:
        while not stop.is_set():
            sweep_blobs(api.engine, api.store, grace_seconds=0)
            cycles[number] += 1

    def publish_and_read(number: int) -> int:
        num = 0
        while num == 0 or sum(cycles) < NUM_CYCLES:
            out = folder_with(tmp_path / f"out-{number}-{num}", b"shared", b"%d" % (num % 3))
            artifact_id = publish(api, step, out, role=f"{number}-{num % 2}")
            into = tmp_path / f"in-{number}-{num}"
            verify_manifest(fetch_artifact(api.engine, api.store, artifact_id, into))
            remove(api, artifact_id)
            num += 1
        return num

    with ThreadPoolExecutor(5) as pool:
        collectors = [pool.submit(collect, number) for number in range(2)]
        publishers = [pool.submit(publish_and_read, number) for number in range(3)]
        try:
            published = [publisher.result() for publisher in publishers]
        finally:
            stop.set()
        for collector in collectors:
            collector.result()

    assert min(*published, *cycles) > 0
    sweep_blobs(api.engine, api.store, grace_seconds=0)
    assert stored_keys(api) == set()


def test_a_blob_that_gets_its_row_between_mark_and_sweep_survives(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = api.running_step()
    folder = folder_with(tmp_path / "out", b"late")
    store_folder(api.store, folder, project_id=step.project_id)
    published: list[str] = []

    def mark_before_the_row(*_: object, **__: object) -> set[str]:
        published.append(publish(api, step, folder))
        return set()

    monkeypatch.setattr("app.artifacts.garbage.referenced_digests", mark_before_the_row)
    monkeypatch.setattr("app.artifacts.garbage.read_only", lambda _: nullcontext())
    monkeypatch.setattr(repository, "is_project", lambda *_: True)

    assert sweep_blobs(api.engine, api.store, grace_seconds=0)[0].num == 0
    verify_manifest(fetch_artifact(api.engine, api.store, published[0], tmp_path / "in"))


class _Crash(Exception):
    pass


class CollectingInAnyOrder(RuleBasedStateMachine):
    """Blobs with and without rows, equal ones among them; what a row names is always readable."""

    contents = st.sampled_from([b"one", b"two", b"three"])

    @initialize()
    def start(self) -> None:
        self.folder = Path(os.environ["PYTEST_GARBAGE_FOLDER"]) / os.urandom(8).hex()
        self.folder.mkdir()
        self.api = make_api(self.folder)
        self.step = self.api.running_step()
        self.artifacts: dict[str, str] = {}
        self.num = 0

    @rule(data=contents, other=contents, role=st.sampled_from("abc"))
    def publish(self, data: bytes, other: bytes, role: str) -> None:
        self.artifacts[role] = publish(self.api, self.step, self._folder(data, other), role=role)

    @rule(data=contents)
    def upload_without_a_row(self, data: bytes) -> None:
        store_folder(self.api.store, self._folder(data), project_id=self.step.project_id)

    @rule(data=contents)
    def begin_to_record_and_crash(self, data: bytes) -> None:
        stored = store_folder(self.api.store, self._folder(data), project_id=self.step.project_id)
        with suppress(_Crash), transaction(self.api.engine) as session:
            require_blobs(session, self.api.store, stored.files, project_id=self.step.project_id)
            raise _Crash

    @rule(role=st.sampled_from("abc"))
    def forget(self, role: str) -> None:
        if role in self.artifacts:
            remove(self.api, self.artifacts.pop(role))

    @rule(dry_run=st.booleans())
    def collect(self, dry_run: bool) -> None:
        before = stored_keys(self.api)
        found = sweep_blobs(self.api.engine, self.api.store, grace_seconds=0, dry_run=dry_run)[0]
        assert len(before) - len(stored_keys(self.api)) == (0 if dry_run else found.num)

    @invariant()
    def everything_with_a_row_is_readable(self) -> None:
        with read_only(self.api.engine) as session:
            assert set(session.scalars(select(Artifact.id))) == set(self.artifacts.values())
        for artifact_id in self.artifacts.values():
            self.num += 1
            into = self.folder / f"in-{self.num}"
            verify_manifest(fetch_artifact(self.api.engine, self.api.store, artifact_id, into))

    def teardown(self) -> None:
        if hasattr(self, "api"):
            self.api.engine.dispose()

    def _folder(self, *contents: bytes) -> Path:
        self.num += 1
        return folder_with(self.folder / f"out-{self.num}", *contents)


def test_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_GARBAGE_FOLDER", str(tmp_path))
    few = settings(
        max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
    )
    CollectingInAnyOrder.TestCase.settings = few
    CollectingInAnyOrder.TestCase("runTest").runTest()
