"""`/v1/recipes`: specs with holes, and the specs that they make."""

from typing import Annotated, Any, Final, Literal, Self

from fastapi import Body
from fastapi.openapi.models import Example
from pydantic import BaseModel, ConfigDict

from app.accounts.dependencies import CurrentPrincipal
from app.errors import Forbidden, NotFound, Unauthorized, Unprocessable, problem_responses
from app.lists import ListOf, list_of
from app.recipes.recipe import Recipe, all_recipes, find_recipe
from app.routing import Router
from fusion.plain_data import json_pointer

router = Router(prefix="/v1/recipes", tags=["Recipes"], responses=problem_responses(Unauthorized, Forbidden))

_EXAMPLES: Final[dict[str, Example]] = {
    "small": {
        "summary": "Parameters of `small-cpu`",
        "value": {
            "corpus": "file-06f3k9x2q4v8t1m7c5b0z6n3ha",
            "target": "model-06f3k9x2q4v8t1m7c5b0z6n3ha",
            "source": "model-06f3k9x2q4v8t1m7c5b0z6n3hb",
            "max_steps": 100,
        },
    }
}


class RecipeObject(BaseModel):
    """A spec with holes."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Name and version; what it makes never changes."""
    object: Literal["recipe"] = "recipe"
    name: str
    version: int
    title: str
    description: str
    parameters: dict[str, Any]
    """JSON Schema (2020-12) of an object with the parameters."""
    spec: dict[str, Any]
    """What is the same for everybody."""

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        return cls(
            id=recipe.id,
            name=recipe.name,
            version=recipe.version,
            title=recipe.title,
            description=recipe.description,
            parameters=recipe.parameters_schema(),
            spec=dict(recipe.spec),
        )


@router.get("")
def list_recipes(principal: CurrentPrincipal) -> ListOf[RecipeObject]:
    """Every recipe, by name; of each the newest version first."""
    return ListOf[RecipeObject](**list_of([RecipeObject.of(item) for item in all_recipes()], has_more=False))


@router.get("/{recipe_name}", responses=problem_responses(NotFound))
def get_recipe(principal: CurrentPrincipal, recipe_name: str) -> RecipeObject:
    """One recipe, by `name@version`, or the newest version of a name."""
    return RecipeObject.of(find_recipe(recipe_name))


@router.post("/{recipe_name}/spec", responses=problem_responses(NotFound, Unprocessable))
def fill_recipe(
    principal: CurrentPrincipal,
    recipe_name: str,
    parameters: Annotated[dict[str, Any], Body(openapi_examples=_EXAMPLES)],
) -> dict[str, Any]:
    """The spec that a recipe makes of these parameters, to look at, to change, and to submit."""
    recipe = find_recipe(recipe_name)
    names = [*parameters, *recipe.parameters_schema()["required"]]
    draft = recipe.fill(parameters, base="", origins={name: json_pointer([name]) for name in names})
    return draft.spec().model_dump(mode="json")
