"""What a user may change of a job that exists, apart from what it does: name, labels, priority."""

from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from sqlalchemy.orm import Session

from app.db.models import Job
from app.db.models.job import search_text
from app.errors import FieldProblem, Unprocessable
from app.jobs import repository
from app.jobs.actions import MAX_PRIORITY, MIN_PRIORITY, lock_job, set_priority
from app.jobs.labels import (
    MAX_PAIRS,
    METADATA,
    TAG,
    MetadataKey,
    MetadataValue,
    Tags,
    labels_of,
    replace_labels,
)
from app.preconditions import Expected

Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$"),
]


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


_OPTIONAL: Final[dict[str, Any]] = {"json_schema_extra": _without_default}


class JobChange(BaseModel):
    """The fields that shall change; the others stay (JSON merge patch, RFC 7396)."""

    model_config = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, json_schema_extra={"minProperties": 1}
    )

    name: Name = Field(default="", **_OPTIONAL)
    tags: Tags = Field(default=[], **_OPTIONAL)
    """All tags that the job shall have."""
    metadata: dict[MetadataKey, MetadataValue | None] | None = Field(default={}, **_OPTIONAL)
    """Pairs to set; a null removes one pair, and null instead of an object all of them."""
    priority: Annotated[int, Field(ge=MIN_PRIORITY, le=MAX_PRIORITY)] = Field(default=0, **_OPTIONAL)
    """Which of the project's jobs goes first: the higher one. Only of a job that has not finished."""

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("give at least one of name, tags, metadata or priority")
        return self


def change_job(
    session: Session, *, project_id: str, job_id: str, change: JobChange, expected: Expected
) -> Job:
    """Change what is given; each change leaves an event.

    Raises:
        NotFound: there is no such job.
        PreconditionFailed: it is not in the version that was expected.
        Conflict: a new priority for a job that has finished or is being cancelled.
        Unprocessable: it would have too many pairs.
    """
    job = lock_job(session, project_id=project_id, job_id=job_id)
    expected.require(job.last_event_seq)
    given = change.model_fields_set
    if "priority" in given:
        set_priority(session, project_id=project_id, job_id=job_id, priority=change.priority)
    if "name" in given:
        _rename(session, job, change.name)
    if "tags" in given:
        _set_tags(session, job, set(change.tags))
    if "metadata" in given:
        _merge_metadata(session, job, change.metadata)
    session.refresh(job)
    return job


def _rename(session: Session, job: Job, name: str) -> None:
    if name == job.name:
        return
    details = {"from": job.name, "to": name}
    job.name = name
    job.search_text = search_text(name)
    session.flush()
    repository.add_event(session, job, "job_renamed", f"name is {name}", details=details)


def _set_tags(session: Session, job: Job, tags: set[str]) -> None:
    before = set(labels_of(session, [job.id])[job.id].tags)
    if tags == before:
        return
    replace_labels(session, job, TAG, dict.fromkeys(tags, ""))
    details = {"added": sorted(tags - before), "removed": sorted(before - tags)}
    repository.add_event(session, job, "tags_changed", "tags changed", details=details)


def _merge_metadata(session: Session, job: Job, patch: dict[str, str | None] | None) -> None:
    before = labels_of(session, [job.id])[job.id].metadata
    after: dict[str, str] = {}
    if patch is not None:
        merged = {**before, **patch}
        after = {key: value for key, value in merged.items() if value is not None}
    if after == before:
        return
    if len(after) > MAX_PAIRS:
        detail = f"a job has at most {MAX_PAIRS} pairs, and with these it would have {len(after)}"
        problem = FieldProblem(pointer="/metadata", code="too_many_pairs", detail=detail)
        raise Unprocessable(f"/metadata: {detail}", code=problem.code, errors=[problem])
    replace_labels(session, job, METADATA, after)
    details = {
        "set": {key: value for key, value in after.items() if before.get(key) != value},
        "removed": sorted(before.keys() - after.keys()),
    }
    repository.add_event(session, job, "metadata_changed", "metadata changed", details=details)
