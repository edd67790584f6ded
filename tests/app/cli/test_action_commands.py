"""Commands that change jobs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.app.cli.conftest import JOB, Ran, Service

Fusion = Callable[..., Ran]


def test_cancel_and_retry_say_the_status(talking: Fusion, service: Service) -> None:
    service.gives("POST /v1/jobs/job-1/cancel", {**JOB, "status": "cancelling"}, status=202)
    service.gives("POST /v1/jobs/job-1/retry", {**JOB, "status": "queued"}, status=202)

    assert talking("cancel", "job-1").out == "job-1 cancelling\n"
    assert talking("retry", "job-1", "--json").json["status"] == "queued"


def test_cancelling_what_has_ended_says_so(talking: Fusion, service: Service) -> None:
    service.gives("POST /v1/jobs/job-1/cancel", JOB, status=202)

    assert talking("cancel", "job-1").out == "job-1 succeeded; nothing was left to cancel\n"


@pytest.mark.parametrize(("command", "status"), [("pause", "pausing"), ("resume", "queued")])
def test_pause_and_resume_say_the_status(
    talking: Fusion, service: Service, command: str, status: str
) -> None:
    service.gives(f"POST /v1/jobs/job-1/{command}", {**JOB, "status": status}, status=202)

    assert talking(command, "job-1").out == f"job-1 {status}\n"


def test_a_refusal_is_explained(talking: Fusion, service: Service) -> None:
    problem = {"detail": "the job is succeeded", "code": "job_finished", "hint": "clone it"}
    service.gives("POST /v1/jobs/job-1/pause", problem, status=409)

    ran = talking("pause", "job-1")

    assert ran.code == 1
    assert "job_finished: the job is succeeded" in ran.err
    assert "clone it" in ran.err


def test_a_clone_prints_the_new_job(talking: Fusion, service: Service, tmp_path: Path) -> None:
    service.gives("POST /v1/jobs/job-1/clone", {**JOB, "id": "job-2"}, status=201)
    (tmp_path / "changes.yaml").write_text("training: {learning_rate: 1.0e-6}")

    plain = talking("clone", "job-1")
    changed = talking("clone", "job-1", "--override", "changes.yaml", "--priority", "3")

    assert plain.out == changed.out == "job-2\n"
    bodies = [json.loads(body) for _, body in service.requests]
    assert bodies == [{}, {"training": {"learning_rate": 1e-6}}]


@pytest.mark.parametrize("text", ["- a list", "key: [unclosed"])
def test_overrides_that_are_none(talking: Fusion, tmp_path: Path, text: str) -> None:
    (tmp_path / "changes.yaml").write_text(text)

    ran = talking("clone", "job-1", "--override", "changes.yaml")

    assert ran.code == 2
    assert "changes.yaml" in ran.err


def test_a_priority_is_changed(talking: Fusion, service: Service) -> None:
    service.gives("PATCH /v1/jobs/job-1", {**JOB, "status": "queued", "priority": -2})

    ran = talking("priority", "job-1", "--", "-2")

    assert ran.out == "job-1 queued; priority -2\n"
    assert json.loads(service.requests[-1][1]) == {"priority": -2}
