"""Models: registered checkpoints and results of jobs."""

from pathlib import Path
from typing import Any

import pytest

from app.catalog.models import register_fused_model
from app.db.session import transaction
from fusion.io.manifest import write_manifest
from tests.support.api import Api, make_api

HUB = {"hub": "org/name", "revision": "a" * 40}


@pytest.fixture
def api(tmp_path: Path) -> Api:
    (tmp_path / "models" / "llama").mkdir(parents=True)
    (tmp_path / "models" / "llama" / "config.json").write_text("{}")
    return make_api(tmp_path, allowed_roots=(tmp_path / "models",))


def _register(api: Api, ref: dict[str, Any], name: str = "llama") -> Any:
    return api.client.post("/v1/models", json={"name": name, "ref": ref}, headers=api.headers)


def _fused(api: Api, folder: Path) -> tuple[str, str]:
    """(model id, artifact id) of a finished job."""
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    write_manifest(folder, kind="model")
    step = api.running_step()
    artifact_id = api.publish_model(step, folder)
    with transaction(api.engine) as session:
        ids = {
            register_fused_model(
                session,
                project_id=step.project_id,
                job_id=step.job_id,
                artifact_id=artifact_id,
                name="fused",
            ).id
            for _ in range(2)
        }
    assert len(ids) == 1
    return ids.pop(), artifact_id


def test_a_hub_model_is_registered(api: Api) -> None:
    created = _register(api, HUB)

    assert created.status_code == 201
    model = created.json()
    assert (model["object"], model["name"], model["owned_by"]) == ("model", "llama", api.principal.project_id)
    assert model["ref"] == HUB | {"path": None, "model_id": None}
    assert model["job_id"] is None
    assert api.client.get(f"/v1/models/{model['id']}", headers=api.headers).json() == model


def test_a_folder_under_an_allowed_root_is_registered(api: Api, tmp_path: Path) -> None:
    path = str(tmp_path / "models" / "llama")

    assert _register(api, {"path": path}).json()["ref"]["path"] == path


@pytest.mark.parametrize(
    ("ref", "code", "pointer"),
    [
        ({"path": "/etc"}, "path_not_allowed", "/ref/path"),
        ({"path": "models/llama"}, "path_not_allowed", "/ref/path"),
        ({"path": "/x\0y"}, "path_not_allowed", "/ref/path"),
        ({"hub": "org/name"}, "invalid_request", "/ref"),
        ({"hub": "org/name", "revision": "main"}, "invalid_request", "/ref/revision"),
        ({}, "invalid_request", "/ref"),
        ({"url": "http://x"}, "invalid_request", "/ref/url"),
    ],
)
def test_wrong_references_name_the_field(api: Api, ref: dict[str, Any], code: str, pointer: str) -> None:
    answer = _register(api, ref)

    assert answer.status_code == 422
    assert answer.json()["code"] == code
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_a_registered_model_is_not_registered_again(api: Api) -> None:
    assert _register(api, {"model_id": "model-abc"}).json()["code"] == "model_registered"


def test_a_fused_model_shows_where_it_came_from_and_its_files(api: Api, tmp_path: Path) -> None:
    model_id, artifact_id = _fused(api, tmp_path / "out")

    model = api.client.get(f"/v1/models/{model_id}", headers=api.headers).json()
    manifest = api.client.get(f"/v1/models/{model_id}/manifest", headers=api.headers).json()

    assert (model["artifact_id"], model["name"], model["ref"]) == (artifact_id, "fused", None)
    assert [file["path"] for file in manifest["files"]] == ["manifest.json", "model.safetensors"]
    content = api.client.get(manifest["files"][1]["content_url"], headers=api.headers)
    assert content.content == b"weights"
    listed = api.client.get(f"/v1/models?job_id={model['job_id']}", headers=api.headers).json()["data"]
    assert [item["id"] for item in listed] == [model_id]


def test_a_registered_checkpoint_has_no_manifest_here(api: Api) -> None:
    model_id = _register(api, HUB).json()["id"]

    answer = api.client.get(f"/v1/models/{model_id}/manifest", headers=api.headers)

    assert (answer.status_code, answer.json()["code"]) == (404, "model_has_no_artifact")


def test_a_model_that_a_live_job_uses_stays(api: Api) -> None:
    model_id, free_id = _register(api, HUB).json()["id"], _register(api, HUB).json()["id"]
    api.running_step(spec={"target": {"model": {"model_id": model_id}}})

    assert api.client.delete(f"/v1/models/{model_id}", headers=api.headers).status_code == 409
    assert api.client.delete(f"/v1/models/{free_id}", headers=api.headers).json()["deleted"] is True
    assert api.client.get(f"/v1/models/{free_id}", headers=api.headers).status_code == 404


def test_another_project_sees_nothing(api: Api, tmp_path: Path) -> None:
    model_id, _ = _fused(api, tmp_path / "out")
    stranger = api.key(project="other")

    assert api.client.get("/v1/models", headers=stranger).json()["data"] == []
    for path in ("", "/manifest"):
        assert api.client.get(f"/v1/models/{model_id}{path}", headers=stranger).status_code == 404
    assert api.client.delete(f"/v1/models/{model_id}", headers=stranger).status_code == 404


def test_models_are_listed_by_kind_and_name(api: Api, tmp_path: Path) -> None:
    registered = _register(api, HUB).json()["id"]
    fused, _ = _fused(api, tmp_path / "fused")

    def listed(query: str) -> list[str]:
        return [
            item["id"] for item in api.client.get(f"/v1/models?{query}", headers=api.headers).json()["data"]
        ]

    assert listed("kind=registered") == listed("name=llama") == [registered]
    assert listed("kind=fused") == listed("name=fused") == [fused]
    assert listed("kind=promoted") == listed("name=llama&kind=fused") == []
    assert api.client.get("/v1/models?kind=other", headers=api.headers).status_code == 422
