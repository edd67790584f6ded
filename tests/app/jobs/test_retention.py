"""What jobs wrote goes when its time is over, and whoever asks for it is told so; on both databases."""

import math
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, func, select, text

from app.db.base import db_time
from app.db.models import Attempt, Event, Job, LogChunk, MetricPoint
from app.db.models.job import LOGS_LEFT, METRICS_LEFT, PURGED_LEFT
from app.db.session import in_transaction, read_only
from app.jobs import retention, service
from app.jobs.attempt_logs import append_log
from app.operations.garbage import collect_garbage
from app.settings import Settings
from app.storage.opening import open_store
from tests.app.jobs import builders as given
from tests.app.jobs.test_list_plans import explain, statements

NUM_CHUNKS = 5
NUM_POINTS = 7


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_ROWS_AT_ONCE", 2)
    monkeypatch.setattr(retention, "_JOBS_AT_ONCE", 1)


def write(engine: Engine, step: service.ClaimedStep) -> None:
    """Some of a log, and points of curves."""
    fence: dict[str, Any] = {"step_id": step.step_id, "attempt": step.attempt}
    for number in range(NUM_CHUNKS):
        line = f"line {number}\n".encode()
        in_transaction(engine, append_log, **fence, first_byte=number * len(line), data=line)
    points = [(number, {"loss": float(number)}) for number in range(1, NUM_POINTS + 1)]
    in_transaction(engine, service.record_metrics, **fence, points=points)


def failed_job(client: TestClient, engine: Engine) -> str:
    """A job that wrote something and failed."""
    job_id = str(client.post("/v1/jobs", json=given.spec_data()).json()["id"])
    step = given.claim(engine)
    write(engine, step)
    given.fail(engine, step, given.USER_ERROR)
    return job_id


def num_rows(engine: Engine, rows: Any, job_id: str) -> int:
    with read_only(engine) as session:
        return session.scalar(select(func.count()).select_from(rows).where(rows.job_id == job_id)) or 0


def test_old_logs_and_curves_go_and_the_api_says_so(client: TestClient, engine: Engine) -> None:
    jobs = [failed_job(client, engine) for _ in range(2)]
    running = str(client.post("/v1/jobs", json=given.spec_data()).json()["id"])
    write(engine, given.claim(engine))

    for kept_seconds in (3600.0, math.inf):
        young = retention.drop_old_logs(engine, kept_seconds=kept_seconds)
        assert (young.num, num_rows(engine, LogChunk, jobs[0])) == (0, NUM_CHUNKS)
    foreseen = [
        retention.drop_old_logs(engine, kept_seconds=0, dry_run=True),
        retention.drop_old_metrics(engine, kept_seconds=0, dry_run=True),
    ]
    removed = [
        retention.drop_old_logs(engine, kept_seconds=0),
        retention.drop_old_metrics(engine, kept_seconds=0),
    ]

    assert foreseen == removed
    assert [one.num for one in removed] == [2 * NUM_CHUNKS, 2 * NUM_POINTS]
    assert removed[0].num_bytes == 2 * NUM_CHUNKS * len("line 0\n")
    for job_id in jobs:
        url = f"/v1/jobs/{job_id}"
        answers = [client.get(f"{url}/logs"), client.get(f"{url}/logs", params={"tail": 3})]
        answers += [
            client.get(f"{url}/metrics", params={"format": name}) for name in ("json", "csv", "ndjson")
        ]
        told = [(answer.status_code, answer.json()["code"]) for answer in answers]
        assert told == [(410, "logs_not_kept")] * 2 + [(410, "metrics_not_kept")] * 3
        assert all(answer.json()["hint"] for answer in answers)
        types = [event["type"] for event in client.get(f"{url}/events").json()["data"]]
        assert types[:2] == ["metrics_removed", "logs_removed"]
        assert len(types) == given.job_now(engine, job_id).last_event_seq
    assert "line 0" in client.get(f"/v1/jobs/{running}/logs").text
    assert client.get(f"/v1/jobs/{running}/metrics").json()["removed_until"] == 0
    assert retention.drop_old_logs(engine, kept_seconds=0).num == 0


def test_nothing_is_told_of_a_job_that_wrote_nothing(client: TestClient, engine: Engine) -> None:
    job_id = client.post("/v1/jobs", json=given.spec_data()).json()["id"]
    client.post(f"/v1/jobs/{job_id}/cancel")
    before = given.job_now(engine, job_id).last_event_seq

    retention.drop_old_logs(engine, kept_seconds=0)
    retention.drop_old_metrics(engine, kept_seconds=0)

    assert client.get(f"/v1/jobs/{job_id}/logs").text == ""
    assert client.get(f"/v1/jobs/{job_id}/metrics").json()["series"] == {}
    assert given.job_now(engine, job_id).last_event_seq == before


def test_a_housekeeper_that_is_cut_off_leaves_nothing_half_shown(
    client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = failed_job(client, engine)
    whole = retention.in_transaction
    rounds = iter(range(2))

    def cut_off(*args: Any) -> Any:
        if next(rounds, None) is None:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(retention, "in_transaction", cut_off)
    with pytest.raises(KeyboardInterrupt):
        retention.drop_old_logs(engine, kept_seconds=0)
    assert num_rows(engine, LogChunk, job_id) == NUM_CHUNKS - 4
    assert client.get(f"/v1/jobs/{job_id}/logs").status_code == 410
    monkeypatch.setattr(retention, "in_transaction", whole)

    assert retention.drop_old_logs(engine, kept_seconds=0).num == NUM_CHUNKS - 4

    types = [event.type for event in given.events(engine, job_id)]
    assert (types.count("logs_removed"), num_rows(engine, LogChunk, job_id)) == (1, 0)


def test_a_job_that_is_taken_up_again_shows_what_it_writes_then(client: TestClient, engine: Engine) -> None:
    job_id = failed_job(client, engine)
    url = f"/v1/jobs/{job_id}"
    seen = client.get(f"{url}/metrics").json()["next_since"]
    for drop in (retention.drop_old_logs, retention.drop_old_metrics):
        drop(engine, kept_seconds=0)
    client.post(f"{url}/retry")

    write(engine, given.claim(engine))
    log = client.get(f"{url}/logs").text.splitlines()
    curves = client.get(f"{url}/metrics").json()

    assert log[:3] == [
        "==> prepare, attempt 2 <==",
        "... what was written before is no longer kept ...",
        "line 0",
    ]
    assert client.get(f"{url}/logs", params={"tail": 2}).text.splitlines()[1:] == ["line 3", "line 4"]
    assert (curves["removed_until"], curves["next_since"]) == (seen, seen + NUM_POINTS)
    assert len(curves["series"]["prepare/loss"]["x"]) == NUM_POINTS
    assert retention.drop_old_logs(engine, kept_seconds=0).num == 0

    client.post(f"{url}/cancel")
    step = given.step_ids(engine, job_id, without="cancelled")[0]
    in_transaction(engine, service.confirm_cancelled, step_id=step, attempt=2)

    assert retention.drop_old_logs(engine, kept_seconds=0).num == NUM_CHUNKS
    assert client.get(f"{url}/logs").status_code == 410


def test_a_result_file_goes_with_the_curves(client: TestClient, engine: Engine) -> None:
    job_id = failed_job(client, engine)
    (file_id,) = client.get(f"/v1/fine_tuning/jobs/{job_id}").json()["result_files"]
    assert client.get(f"/v1/files/{file_id}/content").is_success

    retention.drop_old_metrics(engine, kept_seconds=0)

    for path in (f"/v1/files/{file_id}", f"/v1/files/{file_id}/content"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (410, "metrics_not_kept")
    assert client.get(f"/v1/fine_tuning/jobs/{job_id}").json()["result_files"] == []
    assert client.get(f"/v1/fine_tuning/jobs/{job_id}/events").json()["data"][0]["type"] == "message"


def test_nothing_is_left_of_what_a_purged_job_wrote(
    client: TestClient, engine: Engine, settings: Settings
) -> None:
    kept, purged = failed_job(client, engine), failed_job(client, engine)
    client.delete(f"/v1/jobs/{kept}")
    client.delete(f"/v1/jobs/{purged}", params={"purge": True})
    store = open_store(settings.storage_url)
    history = len(given.events(engine, purged))

    dry, done = (collect_garbage(engine, store, settings, dry_run=dry_run) for dry_run in (True, False))
    again = collect_garbage(engine, store, settings)

    kind = "record of a purged job"
    nums = [one.num for report in (dry, done, again) for one in report.found if one.kind == kind]
    assert nums == [history + NUM_POINTS, history + NUM_POINTS, 0]
    left = [num_rows(engine, rows, purged) for rows in (Event, MetricPoint, LogChunk, Attempt)]
    assert left == [0, 0, 0, 1]
    assert num_rows(engine, Event, kept) > 1


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        (LOGS_LEFT, "ix_jobs_logs_left"),
        (METRICS_LEFT, "ix_jobs_metrics_left"),
        (PURGED_LEFT, "ix_jobs_purged_left"),
    ],
)
def test_what_is_left_is_found_in_an_index(engine: Engine, condition: str, index: str) -> None:
    with statements(engine) as said, read_only(engine) as session:
        of_time = () if condition == PURGED_LEFT else (Job.finished_at < db_time(-1),)
        list(session.scalars(select(Job.id).where(text(condition), *of_time)))

    assert index in explain(engine, *said[0])
