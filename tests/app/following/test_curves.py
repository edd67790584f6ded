"""Curves as columns: thinned out without losing a peak, and without what a resumed attempt took back."""

import csv
import json
import math
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.db.session import in_transaction, read_only
from app.following.curves import Cut, read_series
from app.jobs import service
from tests.app.jobs import builders as given
from tests.app.jobs.test_list_plans import statements

Points = list[tuple[int, dict[str, float]]]


def record(engine: Engine, step: service.ClaimedStep, points: Points) -> None:
    fence: dict[str, Any] = {"step_id": step.step_id, "attempt": step.attempt}
    assert in_transaction(engine, service.record_metrics, **fence, points=points)


@pytest.fixture
def job_id(client: TestClient) -> str:
    return str(client.post("/v1/jobs", json=given.spec_data()).json()["id"])


def curves(client: TestClient, job_id: str, **params: Any) -> dict[str, Any]:
    answer = client.get(f"/v1/jobs/{job_id}/metrics", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_short_curve_is_shown_as_it_is(client: TestClient, engine: Engine, job_id: str) -> None:
    record(engine, given.claim(engine), [(2, {"loss": 3.0, "tokens": 10}), (4, {"loss": 2.5, "tokens": 20})])

    found = curves(client, job_id, keys="prepare/loss")
    by_tokens = curves(client, job_id, keys="*loss", x="tokens")["series"]["prepare/loss"]
    by_time = curves(client, job_id, x="time")["series"]["prepare/loss"]

    assert found["series"] == {
        "prepare/loss": {
            "x": [2, 4],
            "y": [3.0, 2.5],
            "min": [3.0, 2.5],
            "max": [3.0, 2.5],
            "last": 2.5,
            "best": 2.5,
            "n": 2,
            "downsampled": False,
            "nonfinite": [],
            "attempts": [{"attempt": 1, "step": 2, "index": 0}],
        }
    }
    assert by_tokens["x"] == [10, 20]
    assert by_time["x"][0] == pytest.approx(by_time["x"][1], abs=60)
    assert (found["x"], found["next_since"]) == ("step", 2)


def test_a_long_curve_keeps_its_peaks_its_end_and_its_holes(
    client: TestClient, engine: Engine, job_id: str
) -> None:
    values = {number: 5.0 + math.sin(number) for number in range(1, 3001)}
    values |= {777: 99.0, 1500: -1.0, 2000: math.nan}
    record(engine, given.claim(engine), [(number, {"loss": value}) for number, value in values.items()])

    one = curves(client, job_id, max_points=100)["series"]["prepare/loss"]

    assert len(one["x"]) == len(one["y"]) == len(one["min"]) == len(one["max"]) == 100
    assert (max(one["max"]), min(one["min"]), one["best"]) == (99.0, -1.0, -1.0)
    assert one["x"] == sorted(one["x"])
    assert (one["x"][-1], one["last"]) == (3000, pytest.approx(values[3000]))
    assert (one["n"], one["downsampled"]) == (3000, True)
    (hole,) = one["nonfinite"]
    assert one["x"][hole - 1] < 2000 <= one["x"][hole]


def test_what_a_resumed_attempt_took_back_is_left_out(
    client: TestClient, engine: Engine, job_id: str
) -> None:
    first = given.claim(engine)
    record(engine, first, [(number, {"loss": 10.0 + number}) for number in range(1, 9)])
    before = curves(client, job_id)["next_since"]
    fence: dict[str, Any] = {"step_id": first.step_id, "attempt": first.attempt}
    in_transaction(engine, service.release_step, **fence, reason="drain")
    record(engine, given.claim(engine), [(number, {"loss": float(number)}) for number in (5, 6)])

    one = curves(client, job_id)["series"]["prepare/loss"]
    new = curves(client, job_id, since=before)["series"]["prepare/loss"]
    later = curves(client, job_id, since_step=5)["series"]["prepare/loss"]

    assert one["x"] == [1, 2, 3, 4, 5, 6]
    assert one["y"] == [11.0, 12.0, 13.0, 14.0, 5.0, 6.0]
    assert one["attempts"] == [{"attempt": 1, "step": 1, "index": 0}, {"attempt": 2, "step": 5, "index": 4}]
    assert (new["x"], later["x"]) == ([5, 6], [6])
    assert curves(client, job_id, since=10)["series"] == {}


def test_numbers_that_are_not_finite_are_null_and_named(
    client: TestClient, engine: Engine, job_id: str
) -> None:
    record(
        engine, given.claim(engine), [(1, {"loss": math.inf}), (2, {"loss": 1.0}), (3, {"loss": math.nan})]
    )

    one = curves(client, job_id)["series"]["prepare/loss"]

    assert (one["y"], one["min"], one["nonfinite"]) == ([None, 1.0, None], [None, 1.0, None], [0, 2])
    assert (one["last"], one["best"]) == (None, 1.0)


def test_every_point_can_be_taken_away_as_a_file(client: TestClient, engine: Engine, job_id: str) -> None:
    points: Points = [(number, {"loss": number / 2, "rate": 0.1}) for number in range(1, 2501)]
    record(engine, given.claim(engine), points)
    url = f"/v1/jobs/{job_id}/metrics"

    rows = list(csv.DictReader(client.get(url, params={"format": "csv"}).text.splitlines()))
    lines = client.get(url, params={"format": "ndjson", "keys": "*/loss", "since_step": 2400}).text

    assert len(rows) == 5000
    assert {name: rows[1][name] for name in ("step_name", "step", "name", "value")} == {
        "step_name": "prepare",
        "step": "1",
        "name": "rate",
        "value": "0.1",
    }
    found = [json.loads(line) for line in lines.splitlines()]
    assert [(point["step"], point["values"]) for point in found] == [
        (number, {"loss": number / 2}) for number in range(2401, 2501)
    ]


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ("prepare/loss", ["loss"]),
        ("prepare/lo_s", ["lo_s"]),
        ("*/lo_s,prepare/rate%", ["lo_s", "rate%"]),
        ("prep*", ["LOSS", "lo_s", "loss", "rate%", "sub/loss"]),
        ("**loss", ["loss", "sub/loss"]),
        ("prepare/*s*/loss", ["sub/loss"]),
        ("prepare/!", []),
        ("pre/loss,loss,prepare", []),
        ("train.fused/loss,train.*", []),
    ],
)
def test_only_what_is_asked_for_is_shown(
    client: TestClient, engine: Engine, job_id: str, keys: str, names: list[str]
) -> None:
    values = dict.fromkeys(("loss", "LOSS", "lo_s", "rate%", "sub/loss"), 1.0)
    record(engine, given.claim(engine), [(1, values), (2, values)])

    found = curves(client, job_id, keys=keys)["series"]
    text = client.get(f"/v1/jobs/{job_id}/metrics", params={"format": "csv", "keys": keys}).text

    assert sorted(found) == [f"prepare/{name}" for name in names]
    assert sorted({row["name"] for row in csv.DictReader(text.splitlines())}) == names


def test_values_that_nobody_asked_for_are_not_grouped(
    client: TestClient, engine: Engine, job_id: str
) -> None:
    step = given.claim(engine)
    record(engine, step, [(number, {"loss": 1.0, "rate": 1.0}) for number in range(1, 5)])

    def said_for(keys: list[str]) -> list[tuple[str, Any]]:
        cut = Cut(keys=keys)
        with statements(engine) as said, read_only(engine) as session:
            which = {"step_id": step.step_id, "step_name": "prepare", "cut": cut, "axis": "step"}
            read_series(session, **which, max_points=10)  # type: ignore[arg-type]
        return said

    (grouping,) = [asked for asked in said_for(["prepare/loss"]) if "each" in asked[0]]
    with engine.connect() as connection:
        names = {row[0] for row in connection.exec_driver_sql(*grouping)}

    assert names == {"loss"}
    assert said_for(["train.fused/loss"]) == []


def test_a_step_that_is_not_there_is_named(client: TestClient, job_id: str) -> None:
    answer = client.get(f"/v1/jobs/{job_id}/metrics", params={"step": "nope"})

    assert (answer.status_code, answer.json()["code"]) == (404, "step_not_found")
    assert curves(client, job_id)["series"] == {}
