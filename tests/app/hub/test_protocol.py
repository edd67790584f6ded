"""What the hub's routes say on the wire, where clients rely on more than the body."""

import hashlib
from pathlib import Path

import pytest

from app.accounts.scopes import Scope
from tests.support.api import Api, make_api
from tests.support.route_table import routes_of
from tests.support.stored_models import StoredModel, store_model

FILES = {"config.json": b"{}", "sub/deep/a.bin": b"abcdef", "sub/b.txt": b"b"}


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


@pytest.fixture
def stored(api: Api, tmp_path: Path) -> StoredModel:
    folder = tmp_path / "model"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return store_model(api.engine, api.store, folder, name="wise-llama")


def test_a_file_comes_with_its_commit_its_digest_and_ranges(api: Api, stored: StoredModel) -> None:
    url = f"/{stored.project_id}/{stored.model_id}/resolve/main/sub/deep/a.bin"
    head = api.client.head(url, headers=api.headers)
    part = api.client.get(url, headers=api.headers | {"Range": "bytes=2-", "If-Range": head.headers["ETag"]})
    same = api.client.get(url, headers=api.headers | {"If-None-Match": head.headers["ETag"]})
    info = api.client.get(f"/api/models/{stored.project_id}/{stored.model_id}", headers=api.headers).json()

    digest = hashlib.sha256(b"abcdef").hexdigest()
    assert head.headers["ETag"] == head.headers["X-Linked-ETag"] == f'"{digest}"'
    assert head.headers["X-Linked-Size"] == head.headers["Content-Length"] == "6"
    assert head.headers["X-Repo-Commit"] == part.headers["X-Repo-Commit"] == info["sha"]
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"cdef", "bytes 2-5/6")
    assert same.status_code == 304
    artifact = api.client.get(f"/v1/artifacts/{stored.artifact_id}", headers=api.headers).json()
    assert info["sha"] == artifact["digest"][:40]


def test_a_tree_lists_one_folder_or_everything_below(api: Api, stored: StoredModel) -> None:
    tree = f"/api/models/{stored.project_id}/{stored.model_id}/tree/main"
    root = api.client.get(tree, headers=api.headers).json()
    below = api.client.get(f"{tree}/sub?recursive=true", headers=api.headers).json()

    assert [(entry["type"], entry["path"]) for entry in root] == [
        ("file", "config.json"),
        ("file", "manifest.json"),
        ("directory", "sub"),
    ]
    assert [entry["path"] for entry in below] == ["sub/b.txt", "sub/deep", "sub/deep/a.bin"]
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(b'b').hexdigest()}\nsize 1\n"
    )
    git_id = hashlib.sha1(f"blob {len(pointer)}\0{pointer}".encode()).hexdigest()
    assert (below[0]["oid"], below[0]["size"], below[0]["lfs"]["pointerSize"]) == (git_id, 1, len(pointer))


def test_every_refusal_has_the_code_that_clients_look_for(api: Api, stored: StoredModel) -> None:
    repo = f"{stored.project_id}/{stored.model_id}"
    expected = {
        f"/api/models/{stored.project_id}/nothing": "RepoNotFound",
        f"/api/models/proj-nobodys/{stored.model_id}": "RepoNotFound",
        f"/api/models/{repo}/revision/v2": "RevisionNotFound",
        f"/api/models/{repo}/revision/refs%2Fpr%2F1": "RevisionNotFound",
        f"/api/models/{repo}/revision/{'a' * 40}": "RevisionNotFound",
        f"/api/models/{repo}/tree/main/nothing": "EntryNotFound",
        f"/{repo}/resolve/main/sub": "EntryNotFound",
        f"/{repo}/resolve/main/..%2F..%2Fconfig.json": "EntryNotFound",
        f"/{repo}/resolve/main/sub/%00": "EntryNotFound",
    }
    for url, code in expected.items():
        answer = api.client.get(url, headers=api.headers)

        assert (answer.status_code, answer.headers.get("X-Error-Code")) == (404, code), url
        assert answer.json()["hint"], url
    missing = api.client.head(f"/{repo}/resolve/main/nothing", headers=api.headers)
    assert len(missing.headers["X-Repo-Commit"]) == 40  # so that clients remember it
    nobody = api.client.get(f"/api/models/{repo}")
    assert (nobody.status_code, nobody.headers["X-Error-Code"]) == (401, "RepoNotFound")
    weak = api.client.get(f"/{repo}/resolve/main/config.json", headers=api.key(Scope.MODELS_READ))
    assert weak.status_code == 403
    assert "artifacts:read" in weak.headers["X-Error-Message"]


def test_a_registered_checkpoint_is_no_repository(api: Api) -> None:
    wanted = {"name": "llama", "ref": {"hub": "org/name", "revision": "a" * 40}}
    model = api.client.post("/v1/models", json=wanted, headers=api.headers).json()

    answer = api.client.get(f"/api/models/{model['owned_by']}/{model['id']}", headers=api.headers)

    assert model["hub_id"] is None
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (404, "RepoNotFound")


def test_the_hub_takes_no_path_of_another_route(api: Api) -> None:
    routes = routes_of(api.app)
    hubs = {route.name for route in routes if route.name.startswith("hub_")}
    assert hubs
    for route in routes:
        url = route.url(dict.fromkeys(route.parameters, "x"))
        answer = api.client.request(route.method, url, headers=api.headers)

        is_of_the_hub = "X-Error-Message" in answer.headers or route.path == "/api/whoami-v2"
        assert is_of_the_hub is (route.name in hubs), route
