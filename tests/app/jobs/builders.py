"""Jobs in the database, and workers that take and finish their steps."""

from typing import Any

from sqlalchemy import Engine, delete, select, update

from app.db.base import db_time
from app.db.models import Artifact, Attempt, Event, Job, Project, Step
from app.db.session import in_transaction, read_only, transaction
from app.jobs import service
from app.jobs.claims import Resource
from app.jobs.planning import plan_job
from fusion.errors import CorpusInvalid, ErrorDict, InfrastructureError
from fusion.spec import FusionSpec

BOTH: tuple[Resource, ...] = ("cpu", "gpu")
REVISION = "0123456789abcdef0123456789abcdef01234567"

USER_ERROR: ErrorDict = CorpusInvalid("line 3 is not JSON", code="json_broken", hint="mend line 3").to_dict()
NETWORK_ERROR: ErrorDict = InfrastructureError("the hub does not answer", code="hub_unreachable").to_dict()


def spec_data(**changes: Any) -> dict[str, Any]:
    """A spec with one source that names nothing on this machine."""
    return {
        "api_version": "fusion/v1",
        "name": "small",
        "sources": [{"name": "mpt", "model": {"hub": "org/mpt", "revision": REVISION}}],
        "target": {"model": {"hub": "org/target", "revision": REVISION}},
        "corpus": {"dataset": {"hub": "org/text", "revision": REVISION}},
        "evaluation": {"control": False},
        **changes,
    }


def make_project(engine: Engine, name: str = "test") -> str:
    with transaction(engine) as session:
        project = Project(name=name)
        session.add(project)
        session.flush()
        return project.id


def submit(engine: Engine, project_id: str, **changes: Any) -> Job:
    spec = FusionSpec.model_validate(spec_data(**changes))
    return in_transaction(engine, service.submit, project_id=project_id, spec=spec, created_by=None)


def submit_in_new_project(engine: Engine, **changes: Any) -> Job:
    return submit(engine, make_project(engine), **changes)


def claim(engine: Engine, *, worker_id: str = "worker-1", lease_seconds: int = 60) -> service.ClaimedStep:
    """Take the next step, of which there must be one."""
    step = try_claim(engine, worker_id=worker_id, lease_seconds=lease_seconds)
    assert step is not None
    return step


def try_claim(
    engine: Engine,
    *,
    worker_id: str = "worker-1",
    lease_seconds: int = 60,
    resources: tuple[Resource, ...] = BOTH,
) -> service.ClaimedStep | None:
    return in_transaction(
        engine, service.claim_step, worker_id=worker_id, resources=resources, lease_seconds=lease_seconds
    )


def complete(engine: Engine, step: service.ClaimedStep, *, figures: dict[str, Any] | None = None) -> bool:
    """Store an empty output and complete the step with it."""
    artifact_id = store_artifact(engine, step, kind="output", role=step.name)
    return in_transaction(
        engine,
        service.complete_step,
        step_id=step.step_id,
        attempt=step.attempt,
        artifact_id=artifact_id,
        figures=figures or {},
    )


def fail(engine: Engine, step: service.ClaimedStep, error: ErrorDict) -> bool:
    return in_transaction(engine, service.fail_step, step_id=step.step_id, attempt=step.attempt, error=error)


def store_artifact(
    engine: Engine, step: service.ClaimedStep, *, kind: str, role: str, meta: dict[str, Any] | None = None
) -> str:
    """An artifact without files; it replaces the one that the step had in this role.

    `meta`: what the engine wrote into its manifest.
    """
    with transaction(engine) as session:
        of_role = (Artifact.step_id == step.step_id, Artifact.kind == kind, Artifact.role == role)
        session.execute(delete(Artifact).where(*of_role))
        artifact = Artifact(
            project_id=step.project_id,
            job_id=step.job_id,
            step_id=step.step_id,
            attempt=step.attempt,
            kind=kind,
            role=role,
            digest="0" * 64,
            num_bytes=0,
            num_files=0,
            manifest=None if meta is None else {"meta": meta},
        )
        session.add(artifact)
        session.flush()
        return artifact.id


def run_to_end(engine: Engine) -> list[str]:
    """Claim and complete everything; the names of the steps in the order they ran."""
    names = []
    while (step := try_claim(engine)) is not None:
        assert complete(engine, step)
        names.append(step.name)
    return names


def insert_finished_job(
    engine: Engine,
    project_id: str,
    *,
    seconds: float,
    figures: dict[str, dict[str, Any]] | None = None,
    **changes: Any,
) -> Job:
    """A job of an hour ago that succeeded, every step after so many seconds. `figures`: by name of step."""
    spec = FusionSpec.model_validate(spec_data(**changes))
    planned = plan_job(spec, project_id=project_id, created_by=None)
    job = planned.job
    job.status, job.stage = "succeeded", None
    for step in planned.steps:
        step.status, step.attempt, step.figures = "succeeded", 1, (figures or {}).get(step.name)
    with transaction(engine) as session:
        session.add(job)
        session.flush()
        session.add_all(planned.steps)
        session.flush()
        session.add_all(
            Attempt(
                step_id=step.id,
                attempt=1,
                job_id=job.id,
                project_id=project_id,
                worker_id="worker-0",
                outcome="succeeded",
                started_at=db_time(-3600),
                ended_at=db_time(-3600 + seconds),
            )
            for step in planned.steps
        )
    return job


def expire_lease(engine: Engine, step_id: str) -> None:
    """What a silent minute does."""
    with transaction(engine) as session:
        session.execute(update(Step).where(Step.id == step_id).values(lease_ends_at=db_time(-1)))


def make_ready_now(engine: Engine) -> None:
    """End every back-off."""
    with transaction(engine) as session:
        queued = (Step.status == "queued", Step.ready_at.is_not(None))
        session.execute(update(Step).where(*queued).values(ready_at=db_time(-1)))


def job_now(engine: Engine, job_id: str) -> Job:
    with read_only(engine) as session:
        return session.scalars(select(Job).where(Job.id == job_id)).one()


def step_now(engine: Engine, step_id: str) -> Step:
    with read_only(engine) as session:
        return session.scalars(select(Step).where(Step.id == step_id)).one()


def statuses(engine: Engine, job_id: str) -> dict[str, str]:
    """Status of every step by name, in the order of the plan."""
    with read_only(engine) as session:
        steps = session.scalars(select(Step).where(Step.job_id == job_id).order_by(Step.position))
        return {step.name: step.status for step in steps}


def step_ids(engine: Engine, job_id: str, *, without: str) -> list[str]:
    """Ids of the steps of a job that are not in a status."""
    with read_only(engine) as session:
        return list(session.scalars(select(Step.id).where(Step.job_id == job_id, Step.status != without)))


def outcomes(engine: Engine, step_id: str) -> list[str]:
    """How the attempts at a step ended."""
    with read_only(engine) as session:
        query = select(Attempt.outcome).where(Attempt.step_id == step_id).order_by(Attempt.attempt)
        return list(session.scalars(query))


def events(engine: Engine, job_id: str) -> list[Event]:
    with read_only(engine) as session:
        return list(session.scalars(select(Event).where(Event.job_id == job_id).order_by(Event.seq)))
