"""`fusion events` and `fusion logs`."""

import json
from collections.abc import Callable

from tests.app.cli.conftest import EVENT, JOB, Ran, Service

Fusion = Callable[..., Ran]
LINE = {
    "seq": 1,
    "step_name": "prepare",
    "attempt": 1,
    "level": "info",
    "text": "reading",
    "created_at": 1_700_000_000,
}


def test_events_are_a_line_each(talking: Fusion, service: Service) -> None:
    service.gives_list("GET /v1/jobs/job-1/events", EVENT)

    ran = talking("events", "job-1")

    assert (ran.code, ran.out) == (0, "    1  2023-11-14 22:13:21  train.fused started\n")
    assert talking("events", "job-1", "--json").json["seq"] == 1


def test_where_there_is_no_stream_events_are_asked_for(talking: Fusion, service: Service) -> None:
    service.gives("GET /v1/jobs/job-1", JOB)
    service.gives("GET /v1/jobs/job-1/events/stream", {})
    service.gives_list("GET /v1/jobs/job-1/events", EVENT)

    ran = talking("events", "job-1", "--follow")

    assert ran.out.count("train.fused started") == 1


def test_logs_are_headed_by_step_and_attempt(talking: Fusion, service: Service) -> None:
    service.gives("GET /v1/jobs/job-1", JOB)
    service.gives("GET /v1/jobs/job-1/logs", LINE)

    for options in ((), ("--follow",), ("--tail", "5", "--level", "info", "--step", "prepare")):
        assert talking("logs", "job-1", *options).out == "==> prepare, attempt 1 <==\nreading\n"
    assert json.loads(talking("logs", "job-1", "--json").out) == LINE


def test_a_failed_job_shows_its_last_lines(talking: Fusion, service: Service) -> None:
    error = {"code": "x", "category": "user", "message": "no", "log_tail": ["first", "last"]}
    service.has_job(status="failed", error=error)

    assert "log       first\nlog       last\n" in talking("show", "job-1").out
