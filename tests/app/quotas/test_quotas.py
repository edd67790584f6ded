"""Limits of projects: who sets them, what they refuse and what they hold back, on both databases."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from sqlalchemy import Engine, func, select, update

from app.accounts.bootstrap import ensure_admin_key
from app.db.base import db_time
from app.db.models import Artifact, Attempt, File, IdempotencyKey, Job, Project, Step
from app.db.session import read_only, transaction
from app.errors import QuotaExceeded
from app.main import create_app
from app.operations.readiness import find_obstacles
from app.quotas.limits import Quotas
from app.settings import Settings
from tests.app.jobs import builders as given
from tests.app.jobs.test_list_plans import explain, statements

NO_LIMITS = dict.fromkeys(Quotas.model_fields)


@pytest.fixture
def project_id(client: TestClient) -> str:
    """The project of the client's key."""
    found: str = client.get("/v1/me").json()["project"]["id"]
    return found


def limit(client: TestClient, project_id: str, **quotas: float | None) -> None:
    answer = client.patch(f"/v1/projects/{project_id}", json={"quotas": quotas})
    assert answer.status_code == 200, answer.text


def refused(answer: Response, name: str) -> bool:
    """Whether a limit of that name was in the way, and the answer says all that it should."""
    if answer.status_code != 429:
        return False
    problem = answer.json()
    assert problem["code"] == "quota_exceeded"
    assert problem["detail"].startswith(f"{name}: ")
    assert "PATCH /v1/projects/" in problem["hint"]
    assert answer.headers["x-should-retry"] == "false"
    return True


def test_operators_set_limits_and_take_them_away(client: TestClient) -> None:
    project = client.post("/v1/projects", json={"name": "lab", "quotas": {"running_jobs": 3}}).json()
    url = f"/v1/projects/{project['id']}"

    added = client.patch(url, json={"quotas": {"queued_jobs": 5, "stored_bytes": 10**13}}).json()
    removed = client.patch(url, json={"quotas": {"queued_jobs": None}, "name": "garage"}).json()

    assert project["quotas"] == {**NO_LIMITS, "running_jobs": 3}
    assert added["quotas"] == {**NO_LIMITS, "running_jobs": 3, "queued_jobs": 5, "stored_bytes": 10**13}
    assert (removed["name"], removed["quotas"]) == (
        "garage",
        {**NO_LIMITS, "running_jobs": 3, "stored_bytes": 10**13},
    )


@pytest.mark.parametrize("quotas", [{"queued_jobs": -1}, {"stored_bytes": 1.5}, {"gpus": 1}])
def test_a_limit_that_is_none_is_refused(client: TestClient, project_id: str, quotas: Any) -> None:
    answer = client.patch(f"/v1/projects/{project_id}", json={"quotas": quotas})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == f"/quotas/{next(iter(quotas))}"


def test_new_projects_get_the_limits_of_the_settings(settings: Settings, engine: Engine) -> None:
    app = create_app(settings.model_copy(update={"default_quotas": Quotas(queued_jobs=7, running_jobs=1)}))
    key = ensure_admin_key(engine, path=settings.data_dir / "key", pepper=app.state.key_pepper)
    client = TestClient(app, headers={"Authorization": f"Bearer {key}"})

    made = client.post("/v1/projects", json={"name": "lab", "quotas": {"running_jobs": None}}).json()

    assert made["quotas"] == {**NO_LIMITS, "queued_jobs": 7}
    app.state.engine.dispose()


def test_one_job_too_many_is_refused_and_nothing_of_it_stays(
    client: TestClient, engine: Engine, project_id: str
) -> None:
    limit(client, project_id, queued_jobs=1)
    first = client.post("/v1/jobs", json=given.spec_data())
    headers = {"Idempotency-Key": "k"}

    second = client.post("/v1/jobs", json=given.spec_data(), headers=headers)
    assert given.try_claim(engine) is not None
    third = client.post("/v1/jobs", json=given.spec_data(), headers=headers)

    assert (first.status_code, third.status_code) == (201, 201)
    assert refused(second, "queued_jobs")
    assert "1 of 1" in second.json()["detail"]
    assert second.headers["retry-after"] == "60"
    with read_only(engine) as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 2
        assert session.scalar(select(func.count()).select_from(IdempotencyKey)) == 1


def test_a_paused_job_keeps_its_place_in_the_queue(client: TestClient, project_id: str) -> None:
    limit(client, project_id, queued_jobs=1)
    job = client.post("/v1/jobs", json=given.spec_data()).json()
    client.post(f"/v1/jobs/{job['id']}/pause")

    assert refused(client.post("/v1/jobs", json=given.spec_data()), "queued_jobs")
    assert refused(client.post(f"/v1/jobs/{job['id']}/clone"), "queued_jobs")


def test_a_retry_needs_a_place_too(client: TestClient, engine: Engine, project_id: str) -> None:
    failed = client.post("/v1/jobs", json=given.spec_data()).json()
    given.fail(engine, given.claim(engine), given.USER_ERROR)
    limit(client, project_id, queued_jobs=1)
    client.post("/v1/jobs", json=given.spec_data())

    assert refused(client.post(f"/v1/jobs/{failed['id']}/retry"), "queued_jobs")
    assert given.job_now(engine, failed["id"]).status == "failed"


def side_by_side(act: Callable[[int], bool], *, times: int) -> int:
    """How many of calls made at once succeeded."""
    with ThreadPoolExecutor(times) as pool:
        return sum(pool.map(act, range(times)))


def test_submissions_at_once_never_get_past_the_limit(engine: Engine) -> None:
    project_id = given.make_project(engine)
    with transaction(engine) as session:
        session.execute(update(Project).values(max_queued_jobs=3))

    def submit(_: int) -> bool:
        try:
            given.submit(engine, project_id)
        except QuotaExceeded:
            return False
        return True

    assert side_by_side(submit, times=8) == 3


def test_claims_at_once_never_run_more_jobs_than_the_limit(engine: Engine) -> None:
    project_id = given.make_project(engine)
    for _ in range(6):
        given.submit(engine, project_id)
    with transaction(engine) as session:
        session.execute(update(Project).values(max_running_jobs=2))

    def claim(index: int) -> bool:
        return given.try_claim(engine, worker_id=f"worker-{index}") is not None

    claimed = side_by_side(claim, times=6)
    claimed += sum(claim(index) for index in range(6, 9))

    assert claimed == 2


def test_a_project_at_its_limit_goes_on_with_what_runs_and_delays_nobody(engine: Engine) -> None:
    busy, other = given.make_project(engine, "busy"), given.make_project(engine, "other")
    with transaction(engine) as session:
        session.execute(update(Project).where(Project.id == busy).values(max_running_jobs=1))
    revision = {"revision": given.REVISION}
    sources = [{"name": name, "model": {"hub": f"org/{name}", **revision}} for name in ("a", "b")]
    first, second = (given.submit(engine, busy, sources=sources) for _ in range(2))
    given.complete(engine, given.claim(engine))

    extracting = []
    while (step := given.try_claim(engine)) is not None:
        extracting.append(step)
    theirs = given.submit(engine, other)
    claimed = given.claim(engine)
    for step in extracting:
        given.fail(engine, step, given.USER_ERROR)

    assert len(extracting) >= 2
    assert {step.job_id for step in extracting} == {first.id}
    assert claimed.job_id == theirs.id
    assert given.claim(engine).job_id == second.id


def test_steps_that_a_quota_holds_back_are_no_sign_of_trouble(engine: Engine) -> None:
    given.submit_in_new_project(engine)
    given.try_claim(engine, resources=("gpu",))
    with transaction(engine) as session:
        session.execute(update(Project).values(max_running_jobs=0))
        session.execute(update(Step).where(Step.status == "queued").values(ready_at=db_time(-900)))

    held = find_obstacles(engine, lease_seconds=60, stuck_seconds=300)
    with transaction(engine) as session:
        session.execute(update(Project).values(max_running_jobs=None))

    assert held["work"] is None
    assert find_obstacles(engine, lease_seconds=60, stuck_seconds=300)["work"] is not None


def test_a_file_without_room_is_refused_while_it_comes(
    client: TestClient, engine: Engine, project_id: str, settings: Settings
) -> None:
    limit(client, project_id, stored_bytes=100)
    stored = client.post("/v1/files?filename=a.txt", content=b"a" * 60)

    announced = client.post("/v1/files?filename=b.txt", content=b"b" * 41)
    streamed = client.post("/v1/files?filename=b.txt", content=iter([b"b" * 30, b"b" * 30]))
    form = client.post("/v1/files", files={"file": ("b.txt", b"b" * 41)})
    fits = client.post("/v1/files?filename=c.txt", content=b"c" * 40)

    assert (stored.status_code, fits.status_code) == (201, 201)
    assert all(refused(answer, "stored_bytes") for answer in (announced, streamed, form))
    with read_only(engine) as session:
        assert session.scalar(select(func.sum(File.num_bytes))) == 100
    assert list(settings.uploads_dir.iterdir()) == []


def test_files_that_fit_only_one_by_one_are_not_both_stored(
    client: TestClient, engine: Engine, project_id: str, settings: Settings
) -> None:
    limit(client, project_id, stored_bytes=100)

    def upload(index: int) -> bool:
        answer = client.post(f"/v1/files?filename={index}.txt", content=bytes([97 + index]) * 60)
        assert answer.status_code == 201 or refused(answer, "stored_bytes"), answer.text
        return answer.is_success

    assert side_by_side(upload, times=5) == 1
    blobs = [path for path in Path(settings.data_dir, "storage").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in blobs) == 60


def test_an_upload_in_parts_needs_room_from_the_start(
    client: TestClient, project_id: str, engine: Engine
) -> None:
    limit(client, project_id, stored_bytes=100)
    too_large = client.post("/v1/uploads", json={"filename": "a.txt", "bytes": 101})
    announced = {"filename": "a.txt", "bytes": 90}
    uploads = [client.post("/v1/uploads", json=announced).json()["id"] for _ in range(2)]

    first = client.post(f"/v1/uploads/{uploads[0]}/parts", content=b"a" * 90)
    second = client.post(f"/v1/uploads/{uploads[1]}/parts", content=b"b" * 90)
    completed = client.post(f"/v1/uploads/{uploads[0]}/complete", json={"part_ids": [first.json()["id"]]})

    assert refused(too_large, "stored_bytes")
    assert refused(second, "stored_bytes")
    assert completed.status_code == 200


def test_work_that_outgrows_its_storage_is_kept_and_goes_on_once_there_is_room(
    client: TestClient, engine: Engine, project_id: str
) -> None:
    file_id = client.post("/v1/files?filename=a.txt", content=b"a" * 60).json()["id"]
    job = client.post("/v1/jobs", json=given.spec_data()).json()
    step = given.claim(engine)
    limit(client, project_id, stored_bytes=100)
    completed = given.complete(engine, step)
    with transaction(engine) as session:
        session.execute(update(Artifact).values(num_bytes=41))

    held, refusal = given.try_claim(engine), client.post("/v1/jobs", json=given.spec_data())
    client.delete(f"/v1/files/{file_id}")

    assert completed
    assert held is None
    assert refused(refusal, "stored_bytes")
    assert given.run_to_end(engine)
    assert given.job_now(engine, job["id"]).status == "succeeded"


def test_what_a_project_stores_is_added_up_when_its_turn_comes_and_once(engine: Engine) -> None:
    full, first, second = (given.make_project(engine, name) for name in ("full", "first", "second"))
    for project_id in (full, first, second):
        for _ in range(3):
            given.submit(engine, project_id)
    with transaction(engine) as session:
        session.execute(update(Project).values(max_stored_bytes=10**9, max_gpu_hours_per_month=1.0))
        session.execute(update(Project).where(Project.id == full).values(max_stored_bytes=0))
        file = {"filename": "a", "purpose": "corpus", "num_bytes": 1, "status": "processed"}
        session.add(File(project_id=full, sha256="0" * 64, **file))

    served, sums = [], []
    for _ in range(6):
        with statements(engine) as said:
            served.append(given.claim(engine).project_id)
        sums.append(sum("artifacts" in statement and "sum" in statement for statement, _ in said))
    with statements(engine) as said:
        assert given.try_claim(engine) is None
    with transaction(engine) as session:
        session.execute(update(Step).where(Step.status == "queued").values(ready_at=db_time(900)))
    with statements(engine) as idle:
        assert given.try_claim(engine) is None

    assert sorted(served) == sorted([first, second] * 3)
    # The one that is full is asked as long as it has the fewest running steps.
    assert sums == [2] * 6
    assert sum("sum(" in statement for statement, _ in said) == 1
    assert not any("sum(" in statement for statement, _ in idle)
    (plan,) = {explain(engine, *asked) for asked in said if "sum(" in asked[0]}
    for table in ("artifacts", "files", "upload_parts"):
        assert f"ix_{table}_project_id_num_bytes" in plan


def test_readiness_adds_up_once_for_all_steps_that_wait(engine: Engine) -> None:
    project_id = given.make_project(engine)
    for _ in range(5):
        given.submit(engine, project_id)
    given.try_claim(engine, resources=("gpu",))
    with transaction(engine) as session:
        session.execute(update(Project).values(max_stored_bytes=10**9))
        session.execute(update(Step).where(Step.status == "queued").values(ready_at=db_time(-900)))

    with statements(engine) as said:
        found = find_obstacles(engine, lease_seconds=60, stuck_seconds=300)

    assert found["work"] is not None
    assert sum("sum(" in statement for statement, _ in said) == 1


def test_a_project_without_gpu_hours_computes_on_cpus_only(
    client: TestClient, engine: Engine, project_id: str
) -> None:
    client.post("/v1/jobs", json=given.spec_data())
    given.complete(engine, given.claim(engine))
    spend_hours(engine, 2.004)
    limit(client, project_id, gpu_hours_per_month=2)

    nothing = given.try_claim(engine, resources=("gpu",))
    refusal = client.post("/v1/jobs", json=given.spec_data())
    limit(client, project_id, gpu_hours_per_month=2.5)

    assert nothing is None
    assert refused(refusal, "gpu_hours_per_month")
    assert "2.00 of 2 GPU hours" in refusal.json()["detail"]
    assert given.try_claim(engine, resources=("gpu",)) is not None


def spend_hours(engine: Engine, hours: float) -> None:
    """An attempt at a GPU step that began now and took so long."""
    with transaction(engine) as session:
        step = session.scalars(select(Step).where(Step.resource == "gpu").limit(1)).one()
        session.add(
            Attempt(
                step_id=step.id,
                attempt=99,
                job_id=step.job_id,
                project_id=step.project_id,
                worker_id="worker-1",
                outcome="released",
                started_at=db_time(),
                ended_at=db_time(3600 * hours),
            )
        )


def test_usage_tells_what_is_used_of_what(client: TestClient, engine: Engine, project_id: str) -> None:
    limit(client, project_id, running_jobs=4)
    client.post("/v1/files?filename=a.txt", content=b"a" * 60)
    upload_id = client.post("/v1/uploads", json={"filename": "b.txt", "bytes": 10}).json()["id"]
    client.post(f"/v1/uploads/{upload_id}/parts", content=b"b" * 7)
    for _ in range(3):
        client.post("/v1/jobs", json=given.spec_data())
    given.complete(engine, given.claim(engine))
    spend_hours(engine, 1.5)
    with transaction(engine) as session:
        session.execute(update(Artifact).values(num_bytes=1000))
    other = given.make_project(engine, "other")
    given.submit(engine, other)

    shown = client.get("/v1/usage").json()

    assert shown["project_id"] == project_id
    assert shown["quotas"]["queued_jobs"] == {"used": 2, "limit": None}
    assert shown["quotas"]["running_jobs"] == {"used": 0, "limit": 4}
    assert shown["quotas"]["stored_bytes"] == {"used": 1067, "limit": None}
    assert shown["quotas"]["gpu_hours_per_month"]["used"] == pytest.approx(1.5, abs=0.01)
    assert shown["stored_bytes_by_kind"] == {"files": 60, "uploads": 7, "output": 1000}
    [month] = shown["compute_by_month"]
    assert month["gpu_seconds"] == pytest.approx(5400, abs=60)
    assert month["num_attempts"] == 2
