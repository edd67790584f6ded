"""`huggingface_hub` and `transformers`, unmodified, fetch models from this service."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from app.accounts.scopes import Scope
from tests.app.hub.hub_client import HubClient
from tests.support.api import Api, make_api
from tests.support.cutting_proxy import Cuts, cutting_proxy
from tests.support.serving import serving
from tests.support.stored_models import StoredModel, store_model
from tests.support.tiny_models import save_tiny_checkpoint

WEIGHTS = random.Random(1).randbytes(3 << 20)

SNAPSHOT = """
from huggingface_hub import snapshot_download
result = snapshot_download(given["repo"], revision=given.get("revision"))
"""
FILE = """
from huggingface_hub import hf_hub_download
result = hf_hub_download(given["repo"], "sub/weights.bin")
"""
ERRORS_OF = """
from huggingface_hub import HfApi
api = HfApi()
result = {}
for who, (repo, token) in given["asked"].items():
    calls = [
        lambda: api.model_info(repo, token=token),
        lambda: api.list_repo_files(repo, token=token),
        lambda: api.hf_hub_download(repo, "config.json", token=token),
        lambda: api.snapshot_download(repo, token=token),
    ]
    result[who] = []
    for call in calls:
        try:
            call()
        except Exception as error:
            result[who].append([type(error).__name__, str(error)])
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hub:
    """A served model, and a machine with a key that may read it."""

    api: Api
    stored: StoredModel
    folder: Path
    client: HubClient

    @property
    def repo(self) -> str:
        return f"{self.stored.project_id}/{self.stored.model_id}"


def token(headers: dict[str, str]) -> str:
    return headers["Authorization"].removeprefix("Bearer ")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    api = make_api(tmp_path)
    folder = save_tiny_checkpoint(tmp_path / "model")
    (folder / "sub").mkdir()
    (folder / "sub" / "weights.bin").write_bytes(WEIGHTS)
    stored = store_model(api.engine, api.store, folder, name="wise-llama")
    with serving(api.app) as url:
        client = HubClient(home=tmp_path / "home", endpoint=url, token=token(api.key(Scope.READ)))
        yield Hub(api=api, stored=stored, folder=folder, client=client)
    api.app.state.engine.dispose()


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".cache" not in path.parts
    }


def test_a_snapshot_is_the_stored_folder_and_its_digests_hold(hub: Hub) -> None:
    snapshot = hub.client.run(SNAPSHOT, repo=hub.repo)
    checked = hub.client.run(
        """
from huggingface_hub import HfApi, get_cached_repo_tree
api = HfApi()
found = api.verify_repo_checksums(given["repo"])
info = api.model_info(given["repo"], files_metadata=True)
result = {
    "checked": found.checked_count, "wrong": len(found.mismatches), "extra": len(found.extra_paths),
    "missing": len(found.missing_paths), "sha": info.sha, "private": info.private, "id": info.id,
    "sizes": {s.rfilename: s.size for s in info.siblings},
    "main": api.list_repo_refs(given["repo"]).branches[0].target_commit,
    "files": api.list_repo_files(given["repo"], revision=info.sha),
    "exists": [api.file_exists(given["repo"], "config.json"), api.file_exists(given["repo"], "nothing.json"),
               api.repo_exists(given["repo"]), api.revision_exists(given["repo"], "v2")],
    "me": api.whoami()["name"],
}
""",
        repo=hub.repo,
    )

    files = bytes_below(hub.folder)
    assert bytes_below(Path(snapshot)) == files
    assert Path(snapshot).name == checked["sha"] == checked["main"]
    assert (checked["checked"], checked["wrong"], checked["extra"], checked["missing"]) == (
        len(files),
        0,
        0,
        0,
    )
    assert checked["sizes"] == {name: len(data) for name, data in files.items()}
    assert sorted(checked["files"]) == sorted(files)
    assert checked["exists"] == [True, False, True, False]
    assert (checked["id"], checked["private"], checked["me"]) == (hub.repo, True, hub.stored.project_id)


def test_what_is_there_is_not_fetched_again(hub: Hub) -> None:
    hub.client.run(SNAPSHOT, repo=hub.repo)
    blobs = [path for path in hub.api.settings.data_dir.rglob("*") if len(path.name) == 64]
    assert blobs
    for blob in blobs:  # without its bytes the service cannot serve anything twice
        blob.unlink()

    again = hub.client.run(SNAPSHOT, repo=hub.repo)
    one_file = hub.client.run(
        FILE,
        repo=hub.repo,
    )

    assert bytes_below(Path(again)) == bytes_below(hub.folder)
    assert Path(one_file).read_bytes() == WEIGHTS


def test_a_download_goes_on_after_cuts(hub: Hub) -> None:
    cuts = Cuts(after=(1 << 20, 2 << 20), limit=2)
    port = int(hub.client.endpoint.rpartition(":")[2])
    with cutting_proxy(port, cuts) as url:
        path = replace(hub.client, endpoint=url).run(
            FILE,
            repo=hub.repo,
        )

    assert Path(path).read_bytes() == WEIGHTS
    assert cuts.num_cut == 2


def test_whoever_may_not_see_it_is_told_that_there_is_none(hub: Hub) -> None:
    own = token(hub.api.headers)
    others = token(hub.api.key(Scope.ADMIN, project="other"))
    errors = hub.client.run(
        ERRORS_OF,
        asked={
            "nobody": [hub.repo, False],
            "others": [hub.repo, others],
            "others, by name": ["default/wise-llama", others],
            "no such model": [f"{hub.stored.project_id}/nothing", own],
            "wrong key": [hub.repo, "fus_wrong"],
        },
    )

    assert {len(found) for found in errors.values()} == {4}
    for kind, message in errors.pop("wrong key"):
        assert kind == "HfHubHTTPError", message
        assert "401" in message
        assert "Invalid credentials" in message
    assert {kind for found in errors.values() for kind, _ in found} == {"RepositoryNotFoundError"}, errors


def test_a_name_is_the_newest_model_of_that_name_and_a_commit_pins_an_older_one(
    hub: Hub, tmp_path: Path
) -> None:
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "config.json").write_text("{}")
    store_model(hub.api.engine, hub.api.store, newer, name="wise-llama")

    found = hub.client.run(
        """
from huggingface_hub import HfApi, snapshot_download
first = HfApi().model_info(given["repo"]).sha
result = [snapshot_download("default/wise-llama", revision=revision) for revision in ("main", first)]
""",
        repo=hub.repo,
    )

    assert bytes_below(Path(found[0])) == bytes_below(newer)
    assert bytes_below(Path(found[1])) == bytes_below(hub.folder)


def test_transformers_computes_what_the_stored_folder_computes(hub: Hub) -> None:
    computed: list[Any] = hub.client.run(
        """
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
result = []
for name in (given["repo"], given["folder"]):
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForCausalLM.from_pretrained(name)
    ids = tokenizer("the fused model", return_tensors="pt").input_ids
    with torch.no_grad():
        result.append([ids.tolist(), model(ids).logits.tolist()])
""",
        repo=hub.repo,
        folder=str(hub.folder),
    )

    assert computed[0] == computed[1]
    assert len(computed[0][1][0]) > 1


def test_damaged_bytes_never_become_a_file(hub: Hub, tmp_path: Path) -> None:
    """A client that was cut off before the last bytes would get them as a range, which nobody can check."""
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    blob = next((hub.api.settings.data_dir / "storage").rglob(sha256))
    blob.unlink()
    blob.write_bytes(WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1]))

    failed = hub.client.run(
        """
from huggingface_hub import hf_hub_download
try:
    result = hf_hub_download(given["repo"], "sub/weights.bin")
except Exception as error:
    result = [str(error)]
""",
        repo=hub.repo,
    )

    assert isinstance(failed, list), "the client took damaged bytes for the file"
    assert "500" in failed[0]
    assert not list(hub.client.home.rglob(sha256))
