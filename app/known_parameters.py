"""Query parameters that a route does not know are refused: a misspelt filter must not be taken for none.

Only the paths of others' APIs let them pass, whose clients may send what other servers know.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Final

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from app.errors import FieldProblem, Unprocessable

LENIENT_TAGS: Final = frozenset(("OpenAI", "Hub"))
_CODE: Final = "query_unknown"


async def require_known_parameters(request: Request) -> None:
    """Refuse what the route does not declare.

    Raises:
        Unprocessable: with one entry per parameter.
    """
    if not request.query_params:
        return
    route = request.scope["route"]
    if LENIENT_TAGS.intersection(route.tags):
        return
    known = parameters_of(route)
    problems = [
        FieldProblem(pointer=f"query:{name}", code=_CODE, detail=_way_out(name, known))
        for name in sorted(request.query_params)
        if not {name, _shape(name)}.intersection(known)
    ]
    if problems:
        detail = "; ".join(f"there is no parameter {one.pointer[6:]!r}: {one.detail}" for one in problems)
        raise Unprocessable(detail, code=_CODE, errors=problems)


def parameters_of(route: APIRoute) -> Sequence[str]:
    """Names of the query parameters that a route declares, in alphabetical order; an object's keys are
    parameters of their own, and named `object[key]` together."""
    declared = (route.openapi_extra or {}).get("parameters", ())
    objects = {f"{one['name']}[key]" for one in declared if one["in"] == "query"}
    return sorted(objects | set(_names(route.dependant)))


def _names(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        yield field.alias
    for inner in dependant.dependencies:
        yield from _names(inner)


def _shape(name: str) -> str:
    return re.sub(r"\[.*\]$", "[key]", name, flags=re.DOTALL)


def _way_out(name: str, known: Sequence[str]) -> str:
    if not known:
        return "this path takes none"
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
