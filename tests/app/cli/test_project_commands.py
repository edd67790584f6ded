"""`fusion project`, and acting for another one."""

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
