"""`fusion project`, and acting for another one."""

import io
import json
from collections.abc import Callable

import pytest

from tests.app.cli.conftest import Ran, Service

PROJECT = {"id": "proj-1", "object": "project", "name": "lab", "created_at": 1_700_000_000}
Fusion = Callable[..., Ran]


def test_projects_are_made_listed_renamed_and_deleted(talking: Fusion, service: Service) -> None:
    service.gives("POST /v1/projects", PROJECT, status=201)
    service.gives_list("GET /v1/projects", PROJECT)
    service.gives("PATCH /v1/projects/proj-1", {**PROJECT, "name": "garage"})
    service.gives("DELETE /v1/projects/proj-1", {"id": "proj-1", "deleted": True})

    assert talking("project", "create", "lab").out == "proj-1\n"
    assert json.loads(service.requests[-1][1]) == {"name": "lab"}
    assert "proj-1\tlab\t2023-11-14 22:13:20" in talking("project", "list").out
    assert talking("project", "rename", "proj-1", "garage").out == "proj-1 is called garage\n"
    assert talking("project", "delete", "proj-1", "--yes", "--json").json == {"id": "proj-1", "deleted": True}


def test_limits_are_set_and_taken_away(talking: Fusion, service: Service) -> None:
    service.gives(
        "PATCH /v1/projects/proj-1", {**PROJECT, "quotas": {"queued_jobs": 5, "stored_bytes": None}}
    )

    ran = talking(
        "project", "quota", "proj-1", "queued_jobs=5", "gpu_hours_per_month=1.5", "stored_bytes=none"
    )

    assert json.loads(service.requests[-1][1]) == {
        "quotas": {"queued_jobs": 5, "gpu_hours_per_month": 1.5, "stored_bytes": None}
    }
    assert ran.out == "quota\tlimit\nqueued_jobs\t5\nstored_bytes\tnone\n"
    assert "NAME=NUMBER" in talking("project", "quota", "proj-1", "queued_jobs").err


def test_usage_is_shown_against_the_limits(talking: Fusion, service: Service) -> None:
    service.gives(
        "GET /v1/usage",
        {
            "project_id": "proj-1",
            "quotas": {
                "queued_jobs": {"used": 3, "limit": 20},
                "stored_bytes": {"used": 1500, "limit": None},
            },
            "stored_bytes_by_kind": {"files": 1500},
            "compute_by_month": [
                {"month": "2026-11", "gpu_seconds": 5400, "cpu_seconds": 12, "num_attempts": 9}
            ],
        },
    )

    lines = talking("usage").out.splitlines()

    assert "queued_jobs\t3\t20" in lines
    assert "stored_bytes\t1.5 kB\tnone" in lines
    assert "2026-11\t1h30m\t12s\t9" in lines


def test_a_project_is_not_deleted_without_a_yes(
    talking: Fusion, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("typer.confirm", refuse)

    assert talking("project", "delete", "proj-1").code != 0
    assert service.requests == []


def test_an_operator_acts_for_the_project_in_the_environment(
    talking: Fusion, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSION_PROJECT", "proj-2")
    service.gives_list("GET /v1/api_keys")

    assert talking("key", "list").code == 0
    assert service.projects == ["proj-2"]


def refuse(*_: object, **__: object) -> bool:
    import typer

    raise typer.Abort


def test_secrets_come_from_standard_input_and_are_never_shown(
    talking: Fusion, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = {"id": "secret-1", "object": "secret", "name": "hub-token", "created_at": 1_700_000_000}
    service.gives("POST /v1/secrets", secret, status=201)
    service.gives_list("GET /v1/secrets", secret)
    service.gives("DELETE /v1/secrets/secret-1", {"id": "secret-1", "deleted": True})
    monkeypatch.setattr("sys.stdin", io.StringIO("hf_abcdefgh\n"))

    assert talking("secret", "create", "hub-token").out == "secret-1\n"
    assert json.loads(service.requests[-1][1]) == {"name": "hub-token", "value": "hf_abcdefgh"}
    assert "secret-1\thub-token\t2023-11-14 22:13:20" in talking("secret", "list").out
    assert talking("secret", "delete", "secret-1").out == "secret-1 is deleted\n"
