"""Projects that own one of everything, for tests of what one project may see of another."""

from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from app.accounts import service as accounts
from app.accounts.scopes import Scope
from app.artifacts.kinds import ArtifactKind
from app.artifacts.service import Origin, publish_folder
from app.db.models import Model, Project
from app.db.session import in_transaction, read_only, transaction
from app.jobs import service as jobs
from fusion.io.manifest import write_manifest
from tests.app.jobs import builders as given
from tests.support.stored_checkpoints import store_checkpoint, training_step

PLAIN_VALUES: dict[str, str] = {
    "path": "config.json",
    "recipe_name": "small-cpu@1",
    "revision": "main",
}
"""Path parameters that are no ids: a value that makes sense together with the ids of `furnish`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tenant:
    """A project, its admin's headers, and the ids of its things by the name of the path parameter."""

    project_id: str
    headers: dict[str, str]
    ids: dict[str, str]


def furnish(app: FastAPI, engine: Engine, folder: Path, *, name: str) -> Tenant:
    """A new project with one of everything that a route can be asked for.

    A parameter that a new route brings needs an entry in the dictionary at the end.
    """
    with transaction(engine) as session:
        project = Project(name=name)
        session.add(project)
        session.flush()
        key, text = accounts.create_key(
            session, project_id=project.id, name=name, scopes=[Scope.ADMIN], pepper=app.state.key_pepper
        )
    headers = {"Authorization": f"Bearer {text}"}
    client = TestClient(app, headers=headers)
    file_id = client.post("/v1/files?filename=a.txt", content=f"text of {name}".encode()).json()["id"]
    announced = {"filename": "b.txt", "bytes": 100}
    upload_id = client.post("/v1/uploads", json=announced).json()["id"]
    receiver = {"url": f"https://{name}.example.com/hook"}
    webhook_endpoint_id = client.post("/v1/webhook_endpoints", json=receiver).json()["id"]
    webhook_delivery_id = client.post(f"/v1/webhook_endpoints/{webhook_endpoint_id}/test").json()["id"]
    secret = {"name": "hub-token", "value": f"hf_secret_of_{name}"}
    secret_id = client.post("/v1/secrets", json=secret).json()["id"]
    job_id = client.post("/v1/jobs", json=given.spec_data(name=name)).json()["id"]
    step_id, artifact_id = _run(app, engine, folder / name)
    with read_only(engine) as session:
        model_id = session.scalars(select(Model.id).where(Model.job_id == job_id)).one()
    publication = {"target": "hf", "repo": "org/wise", "secret": "hub-token"}
    publication_id = client.post(f"/v1/models/{model_id}/publish", json=publication).json()["id"]
    step = training_step(engine, project_id=project.id)
    checkpoint_id = store_checkpoint(engine, app.state.store, step, folder / f"{name}-checkpoint", number=2)
    return Tenant(
        project_id=project.id,
        headers=headers,
        ids={
            "artifact_id": artifact_id,
            "checkpoint_id": checkpoint_id,
            "file_id": file_id,
            "job_id": job_id,
            "key_id": key.id,
            "model_id": model_id,
            "namespace": project.id,
            "project_id": project.id,
            "publication_id": publication_id,
            "repo": model_id,
            "secret_id": secret_id,
            "step_id": step_id,
            "upload_id": upload_id,
            "webhook_delivery_id": webhook_delivery_id,
            "webhook_endpoint_id": webhook_endpoint_id,
        },
    )


def _run(app: FastAPI, engine: Engine, folder: Path) -> tuple[str, str]:
    """Run the only job there is, with a stored output of its first step: that step and that artifact."""
    step = given.claim(engine)
    fence = {"step_id": step.step_id, "attempt": step.attempt}
    in_transaction(engine, jobs.record_metrics, **fence, points=[(1, {"loss": 2.0})])
    folder.mkdir()
    (folder / "data").write_text(f"output of {step.job_id}")
    write_manifest(folder, kind="prepared", meta={})
    origin = Origin(
        project_id=step.project_id,
        job_id=step.job_id,
        step_id=step.step_id,
        attempt=step.attempt,
        kind=ArtifactKind.OUTPUT,
        role=step.name,
    )
    artifact_id = publish_folder(engine, app.state.store, folder, origin=origin)
    assert artifact_id is not None
    in_transaction(engine, jobs.complete_step, **fence, artifact_id=artifact_id, figures={})
    given.run_to_end(engine)
    return step.step_id, artifact_id
