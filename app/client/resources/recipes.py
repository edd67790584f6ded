"""Specs with holes."""

from typing import Any

from app.client.resources.resource import Resource


class Recipe(Resource):
    """A spec with holes. `parameters` is the JSON Schema of what fills them."""

    id: str
    name: str
    version: int
    title: str
    description: str = ""
    parameters: dict[str, Any] = {}
    spec: dict[str, Any] = {}
