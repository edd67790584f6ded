"""`fusion recipe`: specs with holes, and the specs that they make."""

import json
from typing import Annotated, Any

import typer

from app.cli.answers import print_answers
from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption, KeyOption, UrlOption, connect
from app.cli.output import print_json, print_line, print_table

recipe_app = typer.Typer(
    help="List and show specs with holes, and fill them.", no_args_is_help=True, rich_markup_mode=None
)

RecipeArgument = Annotated[
    str,
    typer.Argument(metavar="RECIPE", help="NAME@VERSION, or NAME for the newest.", show_default=False),
]


@recipe_app.command("list")
def list_recipes(
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List the recipes."""
    with connect(url, api_key, data_dir) as client:
        recipes = client.list_recipes()
    print_answers(recipes, ("recipe", "title"), lambda one: (one.id, one.title), as_json=as_json)


@recipe_app.command("show")
def show_recipe(
    name: RecipeArgument,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show what a recipe makes and what it needs."""
    with connect(url, api_key, data_dir) as client:
        recipe = client.get_recipe(name)
    if as_json:
        print_json(recipe.to_json())
        return
    print_line(f"{recipe.id}: {recipe.title}\n{recipe.description}\n")
    required = recipe.parameters["required"]
    rows = [
        (
            parameter,
            "needed" if parameter in required else schema.get("default", ""),
            " ".join(schema.get("description", "").split()),
        )
        for parameter, schema in recipe.parameters["properties"].items()
    ]
    print_table(("parameter", "default", "meaning"), rows)


@recipe_app.command("fill")
def fill_recipe(
    name: RecipeArgument,
    *,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PARAMETER=VALUE", help="Repeat it for several.", show_default=False),
    ] = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Print the spec that a recipe makes: `fusion recipe fill small-cpu --set ... > spec.yaml`."""
    import yaml

    parameters = dict(_pair(text) for text in given or [])
    with connect(url, api_key, data_dir) as client:
        spec = client.fill_recipe(name, parameters)
    if as_json:
        print_json(spec)
        return
    print_line(yaml.safe_dump(spec, sort_keys=False).rstrip())


def _pair(text: str) -> tuple[str, Any]:
    """A parameter and its value: JSON where it is such (a number), else text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is no PARAMETER=VALUE", param_hint="--set")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
