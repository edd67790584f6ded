"""Prepares an attempt: checks once more what the spec may read, fetches its inputs, writes the request."""

import json
import shutil
from pathlib import Path
from typing import Any

from sqlalchemy import select

from app.artifacts.manifest import check_relative_path
from app.artifacts.service import fetch_artifact
from app.catalog.files import fetch_file
from app.db.models import File, Model
from app.db.session import in_transaction, read_only
from app.jobs.service import ClaimedStep, record_note
from app.jobs.spec_checks import path_problems
from app.logs import get_logger
from fusion.errors import InfrastructureError, SpecInvalid
from fusion.spec import FusionSpec
from workers.capture_cache import capture_cache_of
from workers.hub_cache import private_hub_cache_of
from workers.stage_secrets import open_secrets
from workers.worker import Worker
from workers.workspace import Workspace

log = get_logger(__name__)


def prepare_request(worker: Worker, step: ClaimedStep, workspace: Workspace) -> dict[str, str]:
    """Bring everything the stage reads into the workspace and write `request.json`.

    Returns:
        The secrets that the stage may use, by the name that the spec has for them. They stand in no file.

    Raises:
        SpecInvalid: the spec names a path that this worker may not read, or a secret that is gone.
        InfrastructureError: an input is not there, or storage trouble.
    """
    models, origins = _find_models(worker, step)
    spec = _with_origins(step.spec, origins)
    _check_paths(worker, spec, stage=step.stage)
    inputs = {
        "steps": {
            name: _fetch(worker, artifact_id, into=workspace.inputs / "steps" / name)
            for name, artifact_id in step.inputs.items()
        },
        "files": _fetch_files(worker, step, into=workspace.inputs / "files"),
        "models": {
            model_id: _fetch(worker, artifact_id, into=workspace.inputs / "models" / model_id)
            for model_id, artifact_id in models.items()
        },
        "capture_cache": capture_cache_of(worker, step),
    }
    secrets = open_secrets(worker, step, FusionSpec.model_validate(spec))
    if secrets:
        inputs["private_hub_cache"] = private_hub_cache_of(worker.settings, step)
        _note(worker, step, f"{step.name} is given secrets", names=sorted(secrets))
    _restore_parts(worker, step, out=workspace.out)
    request = {
        "stage": step.stage,
        "subject": step.subject,
        "spec": spec,
        "inputs": inputs,
        "num_batch_halvings": step.num_batch_halvings,
        "out_dir": str(workspace.out),
    }
    workspace.request.write_text(json.dumps(request), encoding="utf-8")
    return secrets


def _check_paths(worker: Worker, spec: dict[str, Any], *, stage: str) -> None:
    """What the API allowed may have been replaced by a link since; only what this stage reads counts."""
    problems = [
        problem
        for problem in path_problems(FusionSpec.model_validate(spec), worker.settings.allowed_roots)
        if stage == "prepare" or not (problem.pointer or "").startswith("/corpus/")
    ]
    if problems:
        first = problems[0]
        raise SpecInvalid(
            first.detail,
            code=first.code,
            pointer=first.pointer,
            hint="the worker reads local paths below FUSION_ALLOWED_ROOTS only; upload the file instead, or "
            "ask the operator to allow the folder",
        )


def _find_models(worker: Worker, step: ClaimedStep) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Of the registered models that the spec names: artifacts by model id, and origins by model id."""
    with read_only(worker.engine) as session:
        wanted = (Model.project_id == step.project_id, Model.id.in_(step.model_ids))
        found = {model.id: model for model in session.scalars(select(Model).where(*wanted))}
    missing = sorted(set(step.model_ids) - found.keys())
    if missing:
        raise SpecInvalid(
            f"model {missing[0]} is not registered in this project any more",
            code="model_not_found",
            hint="submit the job again with a model that exists",
        )
    artifacts = {id_: model.artifact_id for id_, model in found.items() if model.artifact_id is not None}
    origins = {
        id_: model.origin for id_, model in found.items() if model.artifact_id is None and model.origin
    }
    return artifacts, origins


def _with_origins(spec: dict[str, Any], origins: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The spec with registered models that lie elsewhere replaced by where they lie."""
    if not origins:
        return spec

    def located(holder: dict[str, Any]) -> dict[str, Any]:
        origin = origins.get(holder["model"].get("model_id"))
        return holder if origin is None else {**holder, "model": origin}

    return {
        **spec,
        "target": located(spec["target"]),
        "sources": [located(source) for source in spec["sources"]],
    }


def _fetch(worker: Worker, artifact_id: str, *, into: Path) -> str:
    fetch_artifact(worker.engine, worker.store, artifact_id, into=into)
    return str(into)


def _fetch_files(worker: Worker, step: ClaimedStep, *, into: Path) -> dict[str, str]:
    """Uploaded files by id, under their own names: the ending tells the format. Only `prepare` reads them."""
    if step.stage != "prepare" or not step.file_ids:
        return {}
    with read_only(worker.engine) as session:
        wanted = (File.project_id == step.project_id, File.id.in_(step.file_ids))
        files = list(session.scalars(select(File).where(*wanted)))
    missing = sorted(set(step.file_ids) - {file.id for file in files})
    if missing:
        raise SpecInvalid(
            f"file {missing[0]} was deleted",
            code="file_not_found",
            hint="upload the file again and submit the job with its new id",
        )
    fetched = {}
    for file in files:
        path = fetch_file(
            worker.engine, worker.store, file.id, project_id=file.project_id, into=into / file.id
        )
        fetched[file.id] = str(path)
    return fetched


def _restore_parts(worker: Worker, step: ClaimedStep, *, out: Path) -> None:
    """Put back the parts that earlier attempts finished. One that cannot be restored is made again."""
    for path, artifact_id in step.checkpoint_artifact_ids.items():
        folder = out / check_relative_path(path)
        try:
            fetch_artifact(worker.engine, worker.store, artifact_id, into=folder)
        except InfrastructureError as error:
            log.warning("part_not_restored", path=path, code=error.code, error=error.message)
            shutil.rmtree(folder, ignore_errors=True)
            _note(worker, step, f"stored part {path} is not used: {error.message}", code=error.code)


def _note(worker: Worker, step: ClaimedStep, message: str, **details: Any) -> None:
    """A line for the job's history. Where the attempt lost its step, its heartbeat tells."""
    fence: dict[str, Any] = {"step_id": step.step_id, "attempt": step.attempt}
    in_transaction(worker.engine, record_note, **fence, message=message, details=details)
