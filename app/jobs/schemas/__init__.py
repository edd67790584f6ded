"""What the API shows of jobs, one file per subject."""

from app.jobs.schemas.attempt import AttemptOut
from app.jobs.schemas.check import PlannedStepOut, ValidationOut
from app.jobs.schemas.common import ErrorOut, JobProgressOut, ProgressOut
from app.jobs.schemas.estimate import EstimateOut, FigureOut
from app.jobs.schemas.history import EventOut
from app.jobs.schemas.job import DeletedJob, JobCounts, JobInFull, JobOut
from app.jobs.schemas.step import StepOut

__all__ = [
    "AttemptOut",
    "DeletedJob",
    "ErrorOut",
    "EstimateOut",
    "EventOut",
    "FigureOut",
    "JobCounts",
    "JobInFull",
    "JobOut",
    "JobProgressOut",
    "PlannedStepOut",
    "ProgressOut",
    "StepOut",
    "ValidationOut",
]
