"""What a recipe is: a spec with places that whoever uses it fills in. Reads package data, asks nothing else.

A parameter is a place in the spec, so its type, its limits and its meaning are those of the spec, and only
the spec's own validation says whether a value will do.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

import yaml

from app.errors import FieldProblem, NotFound, Unprocessable
from app.recipes.draft import SpecDraft
from app.recipes.pointers import ABSENT, schema_at, value_at
from fusion.spec import ModelRef

MODEL_PATTERN: Final = r"^(model-[0-9a-z]+|[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*@[0-9a-f]{40})$"
_MODEL_TEXT: Final = "A registered model's id, or `org/name@commit` of the hub."


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """A place of the spec that is filled in. `text`: what to say of it; else the spec's own words."""

    name: str
    at: str
    text: str | None
    is_required: bool

    @property
    def is_model(self) -> bool:
        return schema_at(self.at).get("title") == ModelRef.__name__

    def schema(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """JSON Schema of the values; the default is what the recipe's spec has there."""
        schema = schema_at(self.at)
        description = self.text or schema.get("description")
        if self.is_model:
            schema = {"type": "string", "pattern": MODEL_PATTERN, "default": None}
            description = f"{self.text} {_MODEL_TEXT}" if self.text else _MODEL_TEXT
        default = value_at(spec, self.at)
        if default is ABSENT:
            default = schema.get("default")
        elif self.is_model:
            default = ModelRef.model_validate(default)
            default = f"{default.hub}@{default.revision}"
        told = {"default": default} if default is not None and not self.is_required else {}
        kept = {name: value for name, value in schema.items() if name not in ("default", "title")}
        return {**kept, **({"description": description} if description else {}), **told}


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A spec with holes. What it once made it makes for ever: a change is a new version."""

    name: str
    version: int
    title: str
    description: str
    parameters: tuple[Parameter, ...]
    spec: Mapping[str, Any]

    @property
    def id(self) -> str:
        return f"{self.name}@{self.version}"

    def parameters_schema(self) -> dict[str, Any]:
        """JSON Schema of all parameters."""
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {parameter.name: parameter.schema(self.spec) for parameter in self.parameters},
            "required": [parameter.name for parameter in self.parameters if parameter.is_required],
            "additionalProperties": False,
        }

    def problems(self, values: Mapping[str, Any]) -> list[FieldProblem]:
        """Parameters that are missing, or that it does not have; pointers are `/` and their names."""
        known = [parameter.name for parameter in self.parameters]
        unknown = [
            FieldProblem(
                pointer=f"/{name}",
                code="parameter_unknown",
                detail=f"{self.id} has no parameter {name!r}; it has {', '.join(known)}",
            )
            for name in values
            if name not in known
        ]
        missing = [
            FieldProblem(
                pointer=f"/{parameter.name}",
                code="parameter_missing",
                detail=f"{self.id} needs {parameter.name!r}: "
                f"{parameter.schema(self.spec).get('description', 'it has no default')}",
            )
            for parameter in self.parameters
            if parameter.is_required and parameter.name not in values
        ]
        return unknown + missing

    def fill(self, values: Mapping[str, Any], *, base: str, origins: Mapping[str, str]) -> SpecDraft:
        """The spec with `values` in their places.

        Args:
            base: pointer into the request to where the recipe is named.
            origins: pointers into the request to where the values stand, by parameter.

        Raises:
            Unprocessable: parameters are missing, or there are others than it has.
        """
        problems = self._problems(values, base=base, origins=origins)
        if problems:
            detail = "; ".join(f"{problem.pointer}: {problem.detail}" for problem in problems)
            hint = f"GET /v1/recipes/{self.id} describes its parameters"
            raise Unprocessable(detail, code=problems[0].code, hint=hint, errors=problems)
        draft = SpecDraft(data=dict(self.spec), base=base)
        for name, value in values.items():
            parameter = self._parameter(name)
            is_name = parameter.is_model and isinstance(value, str)
            chosen = model_ref(value) if is_name else value
            draft = draft.with_value(parameter.at, chosen, origin=origins[name])
        return draft

    def value_of_text(self, name: str, text: str) -> Any:
        """A value that was written as text, where only text can be sent; what cannot be read stays text."""
        parameter = next((item for item in self.parameters if item.name == name), None)
        if parameter is None or parameter.is_model or schema_at(parameter.at).get("type") == "string":
            return text
        try:
            return json.loads(text)
        except ValueError:
            return text

    def _parameter(self, name: str) -> Parameter:
        return next(parameter for parameter in self.parameters if parameter.name == name)

    def _problems(
        self, values: Mapping[str, Any], *, base: str, origins: Mapping[str, str]
    ) -> list[FieldProblem]:
        known = [parameter.name for parameter in self.parameters]
        unknown = [
            FieldProblem(
                pointer=origins[name],
                code="parameter_unknown",
                detail=f"{self.id} has no parameter {name!r}; it has {', '.join(known)}",
            )
            for name in values
            if name not in known
        ]
        missing = [
            FieldProblem(
                pointer=origins.get(parameter.name, base),
                code="parameter_missing",
                detail=f"{self.id} needs {parameter.name!r}: "
                f"{parameter.schema(self.spec).get('description', 'it has no default')}",
            )
            for parameter in self.parameters
            if parameter.is_required and parameter.name not in values
        ]
        return unknown + missing


def model_ref(text: str) -> dict[str, str]:
    """A reference to a model as a spec has it; validation says whether it is one."""
    if text.startswith("model-"):
        return {"model_id": text}
    hub, at, revision = text.partition("@")
    return {"hub": hub, "revision": revision} if at else {"hub": hub}


@cache
def all_recipes() -> tuple[Recipe, ...]:
    """Every recipe, by name, the newest version of a name first."""
    found = (item for item in (files("app.recipes") / "templates").iterdir() if item.name.endswith(".yaml"))
    recipes = [_read(yaml.safe_load(item.read_text(encoding="utf-8"))) for item in found]
    return tuple(sorted(recipes, key=lambda recipe: (recipe.name, -recipe.version)))


def find_recipe(wanted: str) -> Recipe:
    """A recipe by `name@version`; by its name alone, the newest version.

    Raises:
        NotFound: there is none.
    """
    for recipe in all_recipes():
        if wanted in (recipe.id, recipe.name):
            return recipe
    raise NotFound(
        f"there is no recipe {wanted!r}; there are {', '.join(recipe.id for recipe in all_recipes())}",
        code="recipe_not_found",
    )


def _read(data: dict[str, Any]) -> Recipe:
    return Recipe(
        name=data["name"],
        version=data["version"],
        title=data["title"],
        description=data["description"],
        parameters=tuple(
            Parameter(name=name, at=place["at"], text=place.get("text"), is_required=name in data["required"])
            for name, place in data["parameters"].items()
        ),
        spec=data["spec"],
    )
