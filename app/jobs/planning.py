"""From a spec to the rows of a job. Pure: nothing is stored here."""

from dataclasses import dataclass
from typing import Any

from app.db.base import new_id
from app.db.models import Job, Step, StepNeed
from app.jobs.lifecycle import Desired, JobStatus, StepStatus
from fusion.plan import plan_steps
from fusion.spec import FusionSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedJob:
    """A job's rows, not yet stored. Every step is pending; queueing is the database's business."""

    job: Job
    steps: list[Step]
    needs: list[StepNeed]


def plan_job(
    spec: FusionSpec,
    *,
    project_id: str,
    created_by: str | None,
    priority: int = 0,
    cloned_from_id: str | None = None,
    root_job_id: str | None = None,
    request_digest: str | None = None,
    openai_request: dict[str, Any] | None = None,
) -> PlannedJob:
    """The rows of a job that executes `spec`."""
    planned = plan_steps(spec)
    job = Job(
        id=new_id("job"),
        project_id=project_id,
        name=spec.name,
        spec=spec.model_dump(mode="json"),
        spec_digest=spec.digest(),
        status=JobStatus.QUEUED,
        stage=planned[0].stage,
        strategy=spec.strategy.preset,
        desired=Desired.RUN,
        priority=priority,
        cloned_from_id=cloned_from_id,
        root_job_id=root_job_id,
        last_event_seq=0,
        created_by=created_by,
        request_digest=request_digest,
        openai_request=openai_request,
    )
    ids = {step.name: new_id("step") for step in planned}
    steps = [
        Step(
            id=ids[step.name],
            job_id=job.id,
            project_id=project_id,
            position=position,
            name=step.name,
            stage=step.stage,
            subject=step.subject,
            resource=step.resource,
            weight=step.weight,
            claim_rank=-priority,
            status=StepStatus.PENDING,
        )
        for position, step in enumerate(planned)
    ]
    needs = [
        StepNeed(step_id=ids[step.name], needed_step_id=ids[needed])
        for step in planned
        for needed in step.needs
    ]
    return PlannedJob(job=job, steps=steps, needs=needs)


def file_ids_in(spec: dict[str, Any]) -> list[str]:
    """Uploaded files that a stored spec names."""
    return [file["file_id"] for file in spec["corpus"]["files"] if file.get("file_id") is not None]


def model_ids_in(spec: dict[str, Any]) -> list[str]:
    """Registered models that a stored spec names, each once."""
    refs = [spec["target"]["model"], *(source["model"] for source in spec["sources"])]
    return list(dict.fromkeys(ref["model_id"] for ref in refs if ref.get("model_id") is not None))
