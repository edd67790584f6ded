"""What a check found."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is. Only an error makes the command fail."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the report: what was looked at, what was seen, and what mends it."""

    check: str
    level: Level
    detail: str
    hint: str | None = None


def ok(check: str, detail: str) -> Finding:
    return Finding(check=check, level=Level.OK, detail=detail)


def warning(check: str, detail: str, *, hint: str) -> Finding:
    return Finding(check=check, level=Level.WARNING, detail=detail, hint=hint)


def error(check: str, detail: str, *, hint: str) -> Finding:
    return Finding(check=check, level=Level.ERROR, detail=detail, hint=hint)
