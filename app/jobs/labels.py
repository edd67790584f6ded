"""Tags and metadata of jobs: their limits, how a query carries them, and their rows."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.db.models import Job, JobLabel
from app.errors import FieldProblem, Unprocessable

LabelKind = Literal["tag", "metadata"]
TAG: Final[LabelKind] = "tag"
METADATA: Final[LabelKind] = "metadata"
MAX_TAGS: Final = 16
MAX_PAIRS: Final = 16
_METADATA_PARAMETER: Final = re.compile(r"metadata\[(.*)\]", re.DOTALL)

_PRINTABLE: Final = r"^[^\x00-\x1f\x7f]+$"
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_PRINTABLE)]
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_PRINTABLE)]
MetadataValue = Annotated[str, StringConstraints(max_length=512, pattern=r"^[^\x00]*$")]
Tags = Annotated[list[Tag], Field(max_length=MAX_TAGS)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_PAIRS)]

METADATA_PARAMETER: Final[dict[str, Any]] = {
    "name": "metadata",
    "in": "query",
    "required": False,
    "style": "deepObject",
    "explode": True,
    "schema": {
        "type": "object",
        "propertyNames": {"minLength": 1, "maxLength": 64, "pattern": _PRINTABLE},
        "additionalProperties": {"type": "string", "maxLength": 512, "pattern": r"^[^\x00]*$"},
        "maxProperties": MAX_PAIRS,
    },
    "example": {"team": "code"},
}
"""For `openapi_extra`: FastAPI has no word for a query parameter `metadata[key]=value`."""


class Labels(BaseModel):
    """What a user sticks on a job to find it again."""

    model_config = ConfigDict(frozen=True)

    tags: Tags = []
    metadata: Metadata = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenLabels:
    """Labels as a request for a new job gives them; None for those that it says nothing about."""

    tags: list[str] | None
    metadata: dict[str, str] | None

    def or_those_of(self, other: Labels) -> Labels:
        return Labels(
            tags=other.tags if self.tags is None else self.tags,
            metadata=other.metadata if self.metadata is None else self.metadata,
        )


TagParameter = Annotated[
    list[str] | None,
    # What `checked` refuses, with a code of its own.
    Query(
        alias="tag",
        description="Repeat it for several.",
        json_schema_extra={
            "items": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": _PRINTABLE},
            "maxItems": MAX_TAGS,
        },
    ),
]


async def _given_labels(request: Request, tag: TagParameter = None) -> GivenLabels:
    pairs = metadata_of_query(request)
    labels = checked(tags=tag or [], metadata=dict(pairs))
    return GivenLabels(
        tags=None if tag is None else list(dict.fromkeys(labels.tags)),
        metadata=labels.metadata if pairs else None,
    )


LabelsOfRequest = Annotated[GivenLabels, Depends(_given_labels)]


def metadata_of_query(request: Request) -> list[tuple[str, str]]:
    """The pairs of the parameters `metadata[key]=value`."""
    pairs = request.query_params.multi_items()
    found = ((_METADATA_PARAMETER.fullmatch(name), value) for name, value in pairs)
    return [(match[1], value) for match, value in found if match is not None]


def checked(*, tags: list[str], metadata: Mapping[str, str]) -> Labels:
    """Labels of a query, within their limits.

    Raises:
        Unprocessable: with one entry per label that is not.
    """
    try:
        return Labels.model_validate({"tags": tags, "metadata": dict(metadata)})
    except ValidationError as error:
        problems = [
            FieldProblem(pointer=_pointer(item["loc"]), code=item["type"], detail=item["msg"])
            for item in error.errors()
        ]
        detail = "; ".join(f"{problem.pointer}: {problem.detail}" for problem in problems)
        raise Unprocessable(detail, code="label_invalid", errors=problems) from error


def labels_of(session: Session, job_ids: Collection[str]) -> dict[str, Labels]:
    """Labels of jobs, by job; tags and keys in alphabetical order."""
    tags: dict[str, list[str]] = defaultdict(list)
    metadata: dict[str, dict[str, str]] = defaultdict(dict)
    # Columns, not rows of the session: those would be in the way of rows that replace them.
    columns = (JobLabel.job_id, JobLabel.kind, JobLabel.key, JobLabel.value)
    for label in session.execute(select(*columns).where(JobLabel.job_id.in_(job_ids))):
        if label.kind == TAG:
            tags[label.job_id].append(label.key)
        else:
            metadata[label.job_id][label.key] = label.value
    return {
        job_id: Labels(tags=sorted(tags[job_id]), metadata=dict(sorted(metadata[job_id].items())))
        for job_id in job_ids
    }


def add_labels(session: Session, job: Job, labels: Labels) -> None:
    """Stick labels on a job that has none."""
    session.add_all(_rows(job, TAG, ((tag, "") for tag in labels.tags)))
    session.add_all(_rows(job, METADATA, labels.metadata.items()))
    session.flush()


def replace_labels(session: Session, job: Job, kind: LabelKind, pairs: Mapping[str, str]) -> None:
    """Give a job these labels of a kind and no others."""
    of_kind = delete(JobLabel).where(JobLabel.job_id == job.id, JobLabel.kind == kind)
    session.execute(of_kind.execution_options(synchronize_session=False))
    session.add_all(_rows(job, kind, pairs.items()))
    session.flush()


def _rows(job: Job, kind: LabelKind, pairs: Iterable[tuple[str, str]]) -> list[JobLabel]:
    return [
        JobLabel(job_id=job.id, project_id=job.project_id, kind=kind, key=key, value=value)
        for key, value in pairs
    ]


def _pointer(location: tuple[int | str, ...]) -> str:
    kind, *path = location
    if kind == "tags" or not path:
        return f"query:{TAG if kind == 'tags' else METADATA}"
    return f"query:{METADATA}[{path[0]}]"
