"""Calls about recipes: specs with holes."""

from collections.abc import Mapping
from typing import Any

from app.client.calls import Calls
from app.client.resources.recipes import Recipe


class Recipes(Calls):
    """A recipe is named `name@version`, or by its name alone for the newest version."""

    def list_recipes(self) -> list[Recipe]:
        return self._whole_list("/v1/recipes", Recipe)

    def get_recipe(self, name: str) -> Recipe:
        return Recipe.model_validate(self._transport.request("GET", f"/v1/recipes/{name}"))

    def fill_recipe(self, name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The spec that a recipe makes of these parameters, to submit or to change first."""
        path = f"/v1/recipes/{name}/spec"
        spec: dict[str, Any] = self._transport.request("POST", path, json=dict(parameters), repeatable=True)
        return spec
