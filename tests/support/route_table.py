"""The routes of the app, so that tests meet every one of them, new ones included."""

import re
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One method on one path, as declared."""

    method: str
    path: str
    name: str

    @property
    def parameters(self) -> list[str]:
        """Names in the path."""
        return re.findall(r"{(\w+)(?::\w+)?}", self.path)

    def url(self, values: dict[str, str]) -> str:
        """The path with its parameters filled in."""
        return re.sub(r"{(\w+)(?::\w+)?}", lambda match: values[match[1]], self.path)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def routes_of(app: FastAPI) -> list[Route]:
    """Every route, in the order of the app."""
    return [
        Route(method=method, path=context.path or "", name=context.name or "")
        for context in iter_route_contexts(app.routes)
        for method in sorted(context.methods or ())
    ]


def operation_of(document: dict[str, Any], route: Route) -> dict[str, Any] | None:
    """What the OpenAPI document says of a route; None where it is not in it."""
    path = re.sub(r"{(\w+):\w+}", r"{\1}", route.path)
    operation: dict[str, Any] | None = document["paths"].get(path, {}).get(route.method.lower())
    return operation
