"""`ETag` and `If-Match` (RFC 9110) on things with a version: nobody overwrites a change unseen."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Header

from app.errors import BadRequest, FieldProblem, PreconditionFailed

_TAGS: Final = re.compile(r'\s*(?:W/)?"[^"]*"\s*(?:,\s*(?:W/)?"[^"]*"\s*)*')

ETAG_HEADER: Final[dict[str, Any]] = {
    "ETag": {
        "description": "The version, for `If-Match`. It changes with every event, not with progress.",
        "schema": {"type": "string"},
        "example": '"17"',
    }
}
"""For the `headers` of a response in the OpenAPI document."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """The versions that a caller is content with; None for any."""

    tags: frozenset[str] | None

    @property
    def is_any(self) -> bool:
        return self.tags is None

    def require(self, version: int) -> None:
        """Raises PreconditionFailed when the thing has changed since the caller saw it."""
        if self.tags is not None and entity_tag(version) not in self.tags:
            raise PreconditionFailed(
                f"the version is {version}, and If-Match names {', '.join(sorted(self.tags))}",
                code="version_conflict",
            )


def entity_tag(version: int) -> str:
    """A version as an entity tag."""
    return f'"{version}"'


async def _expected(
    if_match: Annotated[
        str | None,
        Header(
            alias="If-Match",
            description="The `ETag` that was seen: refuse with 412 what has changed since.",
            examples=['"17"'],
            json_schema_extra={"pattern": rf"^(?:\*|{_TAGS.pattern})$"},
        ),
    ] = None,
) -> Expected:
    if if_match is None or if_match.strip() == "*":
        return Expected(tags=None)
    if not _TAGS.fullmatch(if_match):
        detail = f'expected entity tags such as "17", got {if_match!r}'
        problem = FieldProblem(pointer="header:If-Match", code="if_match_invalid", detail=detail)
        raise BadRequest(detail, code=problem.code, errors=[problem])
    return Expected(tags=frozenset(tag.strip() for tag in if_match.split(",")))


ExpectedVersion = Annotated[Expected, Depends(_expected)]
