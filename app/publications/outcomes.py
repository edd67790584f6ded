"""What can become of sending a model somewhere."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_SAID: Final = 4000
"""Of what a place says, so much is kept until secrets are taken out of it; less is shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a model is now."""

    url: str
    revision: str
    """What names exactly these bytes there."""


class Refused(Exception):
    """It would be the same at the next try."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class Unreachable(Exception):
    """The next try may succeed."""

    def __init__(self, message: str, *, asked_seconds: float | None = None) -> None:
        """`asked_seconds`: how long the place asks to be left alone."""
        super().__init__(message)
        self.message = message
        self.asked_seconds = asked_seconds


def outcome_of_status(status: int, message: str, *, asked_seconds: float | None = None) -> Exception:
    """What an answer other than 2xx means."""
    said = f"{status} {message}".strip()
    if status in (401, 403):
        return Refused(f"the place does not let the secret in: {said}", code="destination_denied")
    if status in (408, 425, 429) or status >= 500:
        return Unreachable(f"the place answered {said}", asked_seconds=asked_seconds)
    return Refused(f"the place answered {said}", code="destination_refused")


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """An error, and what led to it."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__
