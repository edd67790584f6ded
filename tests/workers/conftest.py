"""A worker of its own database and folder, whose stages are played by `children.py`."""

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.accounts.projects import ensure_default_project
from app.db.migrate import upgrade
from app.db.models import Artifact, Attempt, Event, Job, MetricPoint, Step
from app.db.models import Worker as WorkerRow
from app.db.session import read_only, transaction
from app.following.log_reading import LogCut, read_lines
from app.jobs import service as jobs
from app.settings import Settings
from fusion.spec_text import validate_spec
from workers.step_runner import run_one
from workers.worker import Worker, create_worker

CHILDREN = Path(__file__).parent / "children.py"


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """A worker and short ways to submit jobs and to look at what became of them."""

    worker: Worker
    root: Path

    def playing(self, behaviour: str) -> "Workshop":
        """The same, with stages that behave in a certain way."""
        command = (sys.executable, str(CHILDREN), behaviour)
        return replace(self, worker=replace(self.worker, stage_command=command))

    def submit(self, **changes: Any) -> str:
        """A new job with a target, one source and a corpus below the allowed root; its id."""
        for name in ("target", "source"):
            (self.root / name).mkdir(exist_ok=True)
        (self.root / "corpus.txt").write_text("text")
        spec = {
            "api_version": "fusion/v1",
            "sources": [{"name": "source", "model": {"path": str(self.root / "source")}}],
            "target": {"model": {"path": str(self.root / "target")}},
            "corpus": {"files": [{"path": str(self.root / "corpus.txt")}]},
            **changes,
        }
        with transaction(self.worker.engine) as session:
            project_id = ensure_default_project(session).id
            checked = validate_spec(spec)
            return jobs.submit(session, project_id=project_id, spec=checked, created_by=None).id

    def run_one_in_background(self) -> threading.Thread:
        thread = threading.Thread(target=run_one, args=(self.worker,))
        thread.start()
        return thread

    def lose(self, job_id: str) -> None:
        """Let somebody else have the running step of a job, as after a silent minute."""
        with transaction(self.worker.engine) as session:
            of_job = (Step.job_id == job_id, Step.status == "running")
            step = session.scalars(select(Step).where(*of_job)).one()
            jobs.release_step(session, step_id=step.id, attempt=step.attempt, reason="drain")
        with transaction(self.worker.engine) as session:
            assert jobs.claim_step(
                session, worker_id="somebody-else", resources=("cpu", "gpu"), lease_seconds=60
            )

    def job(self, job_id: str) -> Job:
        found: Job = self._all(Job, Job.id == job_id)[0]
        return found

    def steps(self, job_id: str) -> dict[str, Step]:
        return {step.name: step for step in self._all(Step, Step.job_id == job_id)}

    def events(self, job_id: str) -> list[Event]:
        return sorted(self._all(Event, Event.job_id == job_id), key=lambda event: event.seq)

    def points(self, job_id: str) -> list[MetricPoint]:
        return self._all(MetricPoint, MetricPoint.job_id == job_id)

    def artifacts(self, job_id: str, kind: str) -> list[Artifact]:
        return self._all(Artifact, Artifact.job_id == job_id, Artifact.kind == kind)

    def attempts(self, job_id: str) -> list[Attempt]:
        return self._all(Attempt, Attempt.job_id == job_id)

    def log(self, job_id: str) -> list[str]:
        """Lines of all attempts, as they were written."""
        names = {step.id: step.name for step in self.steps(job_id).values()}
        return [line.text for line in read_lines(self.worker.engine, LogCut(job_id=job_id, steps=names))]

    def workers(self) -> list[WorkerRow]:
        """Workers that have asked for work."""
        return self._all(WorkerRow)

    def family(self, job_id: str) -> list[int]:
        """Process ids that the stage told about."""
        notes = [event.details for event in self.events(job_id) if event.message == "family"]
        return [pid for details in notes for pid in details["pids"]]

    def _all(self, table: Any, *conditions: Any) -> list[Any]:
        with read_only(self.worker.engine) as session:
            return list(session.scalars(select(table).where(*conditions)))


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Both databases, one after the other."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'fusion.db'}"
    url: str = request.getfixturevalue("postgres_database")
    return url


@pytest.fixture
def make_workshop(tmp_path: Path) -> Iterator[Callable[..., Workshop]]:
    """Builds workshops; fields of the settings can be given."""
    made: list[Workshop] = []

    def make(**fields: Any) -> Workshop:
        settings = Settings(data_dir=tmp_path / "data", allowed_roots=(tmp_path,), **fields)
        settings.data_dir.mkdir(exist_ok=True)
        upgrade(settings.database_url)
        workshop = Workshop(worker=create_worker(settings, resources=("cpu", "gpu")), root=tmp_path)
        made.append(workshop)
        return workshop

    yield make
    for workshop in made:
        workshop.worker.engine.dispose()


@pytest.fixture
def workshop(make_workshop: Callable[..., Workshop]) -> Workshop:
    """A worker on SQLite with quick heartbeats."""
    return make_workshop(lease_seconds=10, heartbeat_seconds=0.2)
