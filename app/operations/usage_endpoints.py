"""`/v1/usage`: what a project uses, against its limits."""

from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts import projects
from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import ReadSession
from app.errors import Forbidden, Unauthorized, Unprocessable, problem_responses
from app.quotas import usage
from app.quotas.enforcement import quotas_of
from app.quotas.limits import Quotas
from app.routing import Router

router = Router(prefix="/v1/usage", tags=["Projects"], responses=problem_responses(Unauthorized, Forbidden))


class UsedOf(BaseModel):
    """What is used of one limit."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    used: float
    limit: float | None
    """Null: there is none."""


class QuotaUse(BaseModel):
    """Every limit of a project."""

    queued_jobs: UsedOf
    running_jobs: UsedOf
    stored_bytes: UsedOf
    gpu_hours_per_month: UsedOf


class MonthOfCompute(BaseModel):
    """What attempts took that began in one month (UTC), until now for those that run."""

    month: str
    gpu_seconds: float = 0.0
    cpu_seconds: float = 0.0
    num_attempts: int = 0


class UsageObject(BaseModel):
    """What a project uses."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    object: Literal["usage"] = "usage"
    project_id: str
    quotas: QuotaUse
    stored_bytes_by_kind: dict[str, int]
    """`files`, `uploads` (parts of unfinished ones), and artifacts by their kind."""
    compute_by_month: list[MonthOfCompute]
    """The newest first; months in which nothing ran are left out."""


@router.get("", responses=problem_responses(Unprocessable))
def get_usage(
    principal: CurrentPrincipal,
    session: ReadSession,
    months: Annotated[int, Query(ge=1, le=24, description="Of how many months compute is told.")] = 3,
) -> UsageObject:
    """What the project uses of its limits, what it stores, and how long it computed."""
    project_id = principal.project_id
    limits = quotas_of(projects.get_project(session, project_id))
    return UsageObject(
        project_id=project_id,
        quotas=_quota_use(session, project_id, limits),
        stored_bytes_by_kind=_stored_bytes_by_kind(session, project_id),
        compute_by_month=_compute_by_month(session, project_id, num_months=months),
    )


def _quota_use(session: Session, project_id: str, limits: Quotas) -> QuotaUse:
    used = session.execute(
        select(
            usage.num_queued_jobs(project_id).label("queued_jobs"),
            usage.num_running_jobs(project_id).label("running_jobs"),
            usage.stored_bytes(project_id).label("stored_bytes"),
            usage.gpu_hours(project_id).label("gpu_hours_per_month"),
        )
    ).one()
    return QuotaUse(
        **{
            name: UsedOf(used=round(float(getattr(used, name)), 6), limit=limit)
            for name, limit in limits.model_dump().items()
        }
    )


def _stored_bytes_by_kind(session: Session, project_id: str) -> dict[str, int]:
    row = session.execute(
        select(
            usage.bytes_of_files(project_id).label("files"),
            usage.bytes_of_uploads(project_id).label("uploads"),
        )
    ).one()
    artifacts = session.execute(usage.artifact_bytes_by_kind(project_id))
    return {"files": row.files, "uploads": row.uploads} | {item.kind: item.num_bytes for item in artifacts}


def _compute_by_month(session: Session, project_id: str, *, num_months: int) -> list[MonthOfCompute]:
    months: dict[str, MonthOfCompute] = {}
    for row in session.execute(usage.compute_by_month(project_id, num_months=num_months)):
        month = months.setdefault(row.month, MonthOfCompute(month=row.month))
        month.num_attempts += row.num_attempts
        if row.resource == "gpu":
            month.gpu_seconds = round(float(row.seconds), 3)
        else:
            month.cpu_seconds = round(float(row.seconds), 3)
    return list(months.values())
