"""The rooms of the service that need no worker, on a real SQLite file and a real store."""

from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import Engine

from app.accounts import service as accounts
from app.accounts.projects import ensure_default_project
from app.accounts.scopes import ALL_SCOPES, Scope
from app.accounts.service import Principal
from app.artifacts.kinds import ArtifactKind
from app.artifacts.service import Origin, publish_folder
from app.db.base import Base
from app.db.models import Job, Project, Step
from app.db.session import transaction
from app.main import create_app
from app.settings import Settings
from app.storage.store import ObjectStore

PEPPER = b"p" * 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Api:
    """A service with one project. `client` sends no key of its own."""

    app: FastAPI
    client: TestClient
    engine: Engine
    store: ObjectStore
    settings: Settings
    principal: Principal
    headers: dict[str, str]

    def key(self, *scopes: Scope, project: str | None = None) -> dict[str, str]:
        """Headers of a new key, of another project where one is named."""
        with transaction(self.engine) as session:
            project_id = self.principal.project_id
            if project is not None:
                row = Project(name=project)
                session.add(row)
                session.flush()
                project_id = row.id
            _, text = accounts.create_key(
                session,
                project_id=project_id,
                name="test",
                scopes=scopes or ALL_SCOPES,
                pepper=PEPPER,
            )
        return {"Authorization": f"Bearer {text}"}

    def running_step(self, *, spec: dict[str, object] | None = None) -> Step:
        """A running step of a new job, in its first attempt."""
        with transaction(self.engine) as session:
            job = Job(
                project_id=self.principal.project_id,
                name="job",
                spec=spec or {},
                spec_digest="0" * 64,
                status="running",
                desired="run",
            )
            session.add(job)
            session.flush()
            step = Step(
                job_id=job.id,
                project_id=job.project_id,
                position=0,
                name="prepare",
                stage="prepare",
                resource="cpu",
                weight=1.0,
                status="running",
                attempt=1,
            )
            session.add(step)
        return step

    def publish_model(self, step: Step, folder: Path) -> str:
        """Id of the artifact that `step` publishes; `folder` carries a manifest."""
        artifact_id = publish_folder(
            self.engine,
            self.store,
            folder,
            origin=Origin(
                project_id=step.project_id,
                job_id=step.job_id,
                step_id=step.id,
                attempt=step.attempt,
                kind=ArtifactKind.MODEL,
                role="publish",
            ),
        )
        assert artifact_id is not None
        return artifact_id


def make_api(folder: Path, *, storage_url: str = "", **settings_fields: object) -> Api:
    """The service in an empty folder, without its lifespan: nothing keeps house."""
    given = {"data_dir": folder / "data", "storage_url": storage_url, **settings_fields}
    settings = Settings(key_pepper=SecretStr(PEPPER.decode()), **given)  # type: ignore[arg-type]
    app = create_app(settings)
    engine = app.state.engine
    Base.metadata.create_all(engine)
    with transaction(engine) as session:
        project = ensure_default_project(session)
        key, text = accounts.create_key(
            session, project_id=project.id, name="admin", scopes=ALL_SCOPES, pepper=PEPPER
        )
    return Api(
        app=app,
        client=TestClient(app, raise_server_exceptions=False),
        engine=engine,
        store=app.state.store,
        settings=settings,
        principal=Principal(project_id=project.id, key_id=key.id, scopes=frozenset(ALL_SCOPES)),
        headers={"Authorization": f"Bearer {text}"},
    )
