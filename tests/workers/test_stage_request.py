"""A stage finds everything it reads in its workspace, and nothing that it may not read."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.accounts.projects import ensure_default_project
from app.artifacts.kinds import ArtifactKind
from app.db.models import Artifact, ArtifactFile, File, Model
from app.db.session import transaction
from app.jobs import service as jobs
from app.jobs.service import ClaimedStep
from app.storage.store import blob_key
from fusion.errors import InfrastructureError, SpecInvalid
from fusion.io.manifest import verify_manifest, write_manifest
from fusion.stage_process import read_request
from tests.workers.conftest import Workshop
from workers.parts import publish_for
from workers.stage_request import prepare_request
from workers.workspace import Workspace, reserve


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with reserve(tmp_path / "data" / "workspaces", step_id="step-1", attempt=1) as reserved:
        yield reserved


def claim(workshop: Workshop, **changes: Any) -> ClaimedStep:
    workshop.submit(**changes)
    with transaction(workshop.worker.engine) as session:
        step = jobs.claim_step(session, worker_id="w", resources=["cpu"], lease_seconds=60)
    assert step is not None
    return step


def request_of(workshop: Workshop, step: ClaimedStep, workspace: Workspace) -> dict[str, Any]:
    prepare_request(workshop.worker, step, workspace)
    request: dict[str, Any] = json.loads(workspace.request.read_text())
    return request


def store(workshop: Workshop, row: Any) -> str:
    """Insert a row of the default project; its id."""
    with transaction(workshop.worker.engine) as session:
        row.project_id = ensure_default_project(session).id
        session.add(row)
        session.flush()
        return str(row.id)


def upload(workshop: Workshop, *, filename: str, text: str) -> str:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    row = File(filename=filename, purpose="corpus", num_bytes=len(text), sha256=sha256, status="processed")
    file_id = store(workshop, row)
    path = workshop.root / "upload"
    path.write_text(text)
    workshop.worker.store.put_file(blob_key(project_id=row.project_id, sha256=sha256), path, sha256=sha256)
    return file_id


def test_an_uploaded_file_keeps_its_name(workshop: Workshop, workspace: Workspace) -> None:
    file_id = upload(workshop, filename="texts.jsonl", text="{}\n")
    step = claim(workshop, corpus={"files": [{"file_id": file_id}]})

    request = request_of(workshop, step, workspace)

    path = Path(request["inputs"]["files"][file_id])
    assert (path.name, path.read_text()) == ("texts.jsonl", "{}\n")


def test_only_extract_is_given_the_cache_of_its_project(workshop: Workshop, workspace: Workspace) -> None:
    step = claim(workshop)

    caches = {
        stage: request_of(workshop, replace(step, stage=stage), workspace)["inputs"]["capture_cache"]
        for stage in ("align", "extract")
    }
    workspace.request.write_text(
        json.dumps(request_of(workshop, replace(step, stage="extract", project_id="proj-2"), workspace))
    )

    folder = workshop.worker.settings.capture_cache_dir
    assert caches == {"align": None, "extract": str(folder / step.project_id)}
    assert read_request(workspace.request).inputs.capture_cache == folder / "proj-2"


def test_no_cache_where_the_operator_wants_none(
    make_workshop: Callable[..., Workshop], workspace: Workspace
) -> None:
    workshop = make_workshop(max_capture_cache_bytes=0)
    step = replace(claim(workshop), stage="extract")

    assert request_of(workshop, step, workspace)["inputs"]["capture_cache"] is None


def test_only_prepare_is_given_the_corpus(workshop: Workshop, workspace: Workspace) -> None:
    file_id = upload(workshop, filename="texts.jsonl", text="{}\n")
    step = claim(workshop, corpus={"files": [{"file_id": file_id}]})

    assert request_of(workshop, replace(step, stage="align"), workspace)["inputs"]["files"] == {}


def test_a_corpus_that_is_gone_matters_to_prepare_only(workshop: Workshop, workspace: Workspace) -> None:
    step = claim(workshop)
    (workshop.root / "corpus.txt").unlink()

    request_of(workshop, replace(step, stage="align"), workspace)
    with pytest.raises(SpecInvalid) as caught:
        prepare_request(workshop.worker, step, workspace)

    assert caught.value.pointer == "/corpus/files/0/path"


def test_a_registered_folder_is_named_in_the_spec_by_its_path(
    workshop: Workshop, workspace: Workspace
) -> None:
    (workshop.root / "registered").mkdir()
    origin = {"path": str(workshop.root / "registered")}
    model_id = store(workshop, Model(name="registered", origin=origin))
    step = claim(workshop, target={"model": {"model_id": model_id}})

    request = request_of(workshop, step, workspace)

    assert request["spec"]["target"]["model"] == origin
    assert request["inputs"]["models"] == {}


def test_a_registered_folder_outside_the_roots_is_refused(workshop: Workshop, workspace: Workspace) -> None:
    model_id = store(workshop, Model(name="registered", origin={"path": "/etc"}))
    step = claim(workshop, target={"model": {"model_id": model_id}})

    with pytest.raises(SpecInvalid) as caught:
        prepare_request(workshop.worker, step, workspace)

    assert (caught.value.code, caught.value.pointer) == ("path_not_allowed", "/target/model/path")


def test_a_fused_model_is_fetched_as_a_folder(workshop: Workshop, workspace: Workspace) -> None:
    model_id = store(workshop, Model(name="fused", artifact_id=store_artifact(workshop)))
    step = claim(workshop, target={"model": {"model_id": model_id}})

    request = request_of(workshop, step, workspace)

    folder = Path(request["inputs"]["models"][model_id])
    assert (folder / "config.json").read_text() == "{}"
    assert request["spec"]["target"]["model"]["model_id"] == model_id


def test_a_damaged_part_is_left_out_and_made_again(workshop: Workshop, workspace: Workspace) -> None:
    step = replace(claim(workshop), checkpoint_artifact_ids={"shard-00000": "art-gone"})

    request_of(workshop, step, workspace)

    assert list(workspace.out.iterdir()) == []


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_checkpoint_is_noted_and_the_one_before_is_used(
    workshop: Workshop, workspace: Workspace, damage: str
) -> None:
    step, worker = claim(workshop), workshop.worker
    ids = {}
    for name in ("step-00000001", "step-00000002"):
        folder = workshop.root / "made" / name
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_text(f"weights of {name}")
        write_manifest(folder, kind="checkpoint")
        kept = publish_for(
            worker.engine,
            worker.store,
            step,
            folder,
            kind=ArtifactKind.CHECKPOINT,
            role=f"checkpoints/{name}",
        )
        assert kept is not None
        ids[f"checkpoints/{name}"] = kept
    storage = worker.settings.data_dir / "storage"
    blob = next(
        path for path in storage.rglob("*") if path.is_file() and b"of step-00000002" in path.read_bytes()
    )
    blob.chmod(0o600)
    {
        "flipped": lambda: blob.write_bytes(blob.read_bytes().replace(b"weights", b"weighta")),
        "cut": lambda: os.truncate(blob, 3),
        "gone": blob.unlink,
    }[damage]()

    request_of(workshop, replace(step, checkpoint_artifact_ids=ids), workspace)

    restored = [path.name for path in (workspace.out / "checkpoints").iterdir()]
    assert restored == ["step-00000001"]
    verify_manifest(workspace.out / "checkpoints" / "step-00000001")
    (note,) = (event for event in workshop.events(step.job_id) if event.type == "note")
    assert note.message.startswith("stored part checkpoints/step-00000002 is not used")
    assert note.details["code"] in ("storage_object_damaged", "storage_object_missing")


def test_a_damaged_input_is_an_error_with_a_code(workshop: Workshop, workspace: Workspace) -> None:
    model_id = store(workshop, Model(name="fused", artifact_id=store_artifact(workshop)))
    step = claim(workshop, target={"model": {"model_id": model_id}})
    for blob in (workshop.worker.settings.data_dir / "storage").rglob("*"):
        if blob.is_file():
            blob.chmod(0o600)
            blob.write_bytes(bytes(blob.stat().st_size))

    with pytest.raises(InfrastructureError) as caught:
        prepare_request(workshop.worker, step, workspace)

    assert caught.value.code == "storage_object_damaged"


def store_artifact(workshop: Workshop) -> str:
    """A stored folder with one file and its manifest."""
    folder = workshop.root / "fused"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    write_manifest(folder, kind="model")
    row = Artifact(kind="model", role="publish", digest="0" * 64, num_bytes=2, num_files=2)
    artifact_id = store(workshop, row)
    for name in ("config.json", "manifest.json"):
        data = (folder / name).read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        workshop.worker.store.put_file(
            blob_key(project_id=row.project_id, sha256=sha256), folder / name, sha256=sha256
        )
        with transaction(workshop.worker.engine) as session:
            session.add(
                ArtifactFile(
                    artifact_id=artifact_id,
                    path=name,
                    project_id=row.project_id,
                    num_bytes=len(data),
                    sha256=sha256,
                )
            )
    return artifact_id
