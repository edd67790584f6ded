"""A spec that was checked without being submitted."""

from typing import Any, Literal

from app.jobs.schemas.common import Shown
from app.jobs.schemas.estimate import EstimateOut
from fusion.plan import Resource, Stage


class PlannedStepOut(Shown):
    """A step that the job would have."""

    name: str
    stage: Stage
    subject: str | None
    resource: Resource
    needs: list[str]


class ValidationOut(Shown):
    """A spec that would be accepted."""

    object: Literal["job_validation"] = "job_validation"
    valid: Literal[True] = True
    spec: dict[str, Any]
    """The spec with every default and preset written out."""
    spec_digest: str
    steps: list[PlannedStepOut]
    estimate: EstimateOut
    warnings: list[str]
    """Those of the estimate: what will stop the job although its spec is valid."""
