"""What a client says about a file that it sends: fields of the form, or of the query."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final, Literal, cast, get_args

from app.catalog.findings import Purpose
from app.errors import FieldProblem, Unprocessable

MIN_EXPIRY_SECONDS: Final = 3600
MAX_EXPIRY_SECONDS: Final = 30 * 86_400
EXPIRY_ANCHOR: Final = "expires_after[anchor]"
EXPIRY_SECONDS: Final = "expires_after[seconds]"
_ANCHOR: Final = "created_at"
_FIELDS: Final = frozenset({"purpose", EXPIRY_ANCHOR, EXPIRY_SECONDS})

Given = Mapping[str, str]


def check_known_fields(fields: Given) -> None:
    """Refuse a field that would silently do nothing.

    Raises:
        Unprocessable: names it.
    """
    unknown = sorted(fields.keys() - _FIELDS)
    if unknown:
        detail = f"unknown form fields: {', '.join(unknown)}; known: {', '.join(sorted(_FIELDS))}"
        raise refused_field(unknown[0], "extra_forbidden", detail)


def purpose_of(fields: Given) -> Purpose:
    """What the file is for; a corpus, if nothing is said."""
    purpose = fields.get("purpose", "corpus")
    if purpose not in get_args(Purpose):
        expected = " or ".join(get_args(Purpose))
        raise refused_field("purpose", "purpose_unknown", f"purpose is {purpose!r}, expected {expected}")
    return cast("Purpose", purpose)


def expiry_of(fields: Given) -> timedelta | None:
    """How long after its creation the file goes by itself; never, if nothing is said."""
    anchor, seconds = fields.get(EXPIRY_ANCHOR, _ANCHOR), fields.get(EXPIRY_SECONDS)
    if anchor != _ANCHOR:
        raise refused_field(
            EXPIRY_ANCHOR, "expiry_invalid", f"the anchor is {anchor!r}, expected {_ANCHOR!r}"
        )
    if seconds is None:
        if EXPIRY_ANCHOR in fields:
            raise refused_field(EXPIRY_SECONDS, "expiry_invalid", "an anchor without seconds")
        return None
    if not (seconds.isdecimal() and MIN_EXPIRY_SECONDS <= int(seconds) <= MAX_EXPIRY_SECONDS):
        expected = f"expected {MIN_EXPIRY_SECONDS} (an hour) to {MAX_EXPIRY_SECONDS} (30 days)"
        raise refused_field(EXPIRY_SECONDS, "expiry_invalid", f"{seconds!r} seconds, {expected}")
    return timedelta(seconds=int(seconds))


def refused_field(
    name: str, code: str, detail: str, *, where: Literal["form", "query"] = "form"
) -> Unprocessable:
    pointer = f"/{name}" if where == "form" else f"query:{name}"
    return Unprocessable(detail, code=code, errors=[FieldProblem(pointer=pointer, code=code, detail=detail)])
