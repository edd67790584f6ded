"""Query parameters that a route does not know are refused: a misspelt filter must not be taken for none.

OpenAI's paths and the hub's let them pass, because their clients may send what other servers know.
"""

import difflib
from collections.abc import Iterator, Sequence
from typing import Final

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from app.errors import FieldProblem, Unprocessable

LENIENT_TAGS: Final = frozenset(("OpenAI", "Hub"))
"""Sections of the API whose routes let unknown parameters pass."""
_CODE: Final = "query_unknown"
_MAX_TOLD: Final = 20
_MAX_LETTERS: Final = 100
"""What is refused can be as long as the request; it is looked at, and told, this far."""


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
    unknown = sorted(name for name in request.query_params if not {name, _shape(name)}.intersection(known))
    if not unknown:
        return
    told = {name[:_MAX_LETTERS]: _way_out(name[:_MAX_LETTERS], known) for name in unknown[:_MAX_TOLD]}
    raise Unprocessable(
        "; ".join(f"there is no parameter {name!r}: {way_out}" for name, way_out in told.items()),
        code=_CODE,
        errors=[
            FieldProblem(pointer=f"query:{name}", code=_CODE, detail=way_out)
            for name, way_out in told.items()
        ],
    )


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
    head, bracket, _ = name.partition("[")
    return f"{head}[key]" if bracket and name.endswith("]") else name


def _way_out(name: str, known: Sequence[str]) -> str:
    if not known:
        return "this path takes none"
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
