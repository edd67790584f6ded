"""Every packaged recipe makes valid specs, and says of its parameters what the spec says."""

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.errors import Unprocessable
from app.recipes.pointers import ABSENT, schema_at, value_at, with_value_at
from app.recipes.recipe import Recipe, all_recipes, find_recipe
from fusion.spec import FusionSpec
from tests.app.jobs.builders import REVISION
from tests.support.api import make_api

RECIPES = {recipe.id: recipe for recipe in all_recipes()}
MADE = Path(__file__).parent / "made"
VALUES = {
    "corpus": "file-06f3k9x2q4v8t1m7c5b0z6n3ha",
    "target": "model-06f3k9x2q4v8t1m7c5b0z6n3ha",
    "source": "model-06f3k9x2q4v8t1m7c5b0z6n3hb",
    "openllama": f"openlm-research/open_llama_7b@{REVISION}",
    "mpt": f"mosaicml/mpt-7b@{REVISION}",
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    api = make_api(tmp_path_factory.mktemp("recipes"))
    api.client.headers.update(api.headers)
    return api.client


def test_the_papers_fusion_and_a_small_one_are_there() -> None:
    assert {"fusellm@1", "small-cpu@1"} <= RECIPES.keys()


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_a_filled_recipe_is_a_spec_and_what_is_required_is_enough(recipe: Recipe) -> None:
    required = {name: VALUES[name] for name in recipe.parameters_schema()["required"]}

    spec = filled(recipe, required)

    assert spec.name == recipe.name
    assert [file.file_id for file in spec.corpus.files] == [VALUES["corpus"]]


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_a_version_makes_what_it_always_made(recipe: Recipe) -> None:
    """Also when a default of the spec changes: then the recipe has to write the old one out."""
    required = {name: VALUES[name] for name in recipe.parameters_schema()["required"]}
    path = MADE / f"{recipe.id}.json"
    assert path.exists(), f"a new version: write what it makes to made/{path.name}"

    assert_holds(filled(recipe, required).model_dump(mode="json"), json.loads(path.read_text()), "")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_a_default_given_as_a_value_changes_nothing(recipe: Recipe) -> None:
    schema = recipe.parameters_schema()
    required = {name: VALUES[name] for name in schema["required"]}
    defaults = {name: item["default"] for name, item in schema["properties"].items() if "default" in item}

    assert filled(recipe, {**required, **defaults}).digest() == filled(recipe, required).digest()


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_each_parameter_reaches_the_spec(recipe: Recipe) -> None:
    for parameter in recipe.parameters:
        schema = recipe.parameters_schema()["properties"][parameter.name]
        value = VALUES.get(parameter.name) or {"integer": 9, "number": 0.25, "string": "body"}[schema["type"]]
        required = {name: VALUES[name] for name in recipe.parameters_schema()["required"]}

        found = value_at(filled(recipe, {**required, parameter.name: value}).model_dump(), parameter.at)

        assert found == value or value.partition("@")[0] in (found["hub"], found["model_id"])


def test_the_paper_is_what_the_preset_says() -> None:
    spec = filled(RECIPES["fusellm@1"], {name: VALUES[name] for name in ("corpus", "openllama", "mpt")})

    assert spec.strategy.preset == "paper"
    assert spec.target.model.hub == "meta-llama/Llama-2-7b-hf"
    assert (spec.training.sequences_per_step, spec.training.learning_rate) == (128, 1e-5)


@pytest.mark.parametrize(
    ("values", "pointer", "code"),
    [
        ({}, "/corpus", "parameter_missing"),
        ({"colour": 1}, "/colour", "parameter_unknown"),
        ({"learning_rate": -1.0}, "/learning_rate", "greater_than"),
        ({"target": "mine"}, "/target", "string_pattern_mismatch"),
        ({"target": "model-06f3k9x2q4v8t1m7c5b0z6n3hb"}, "/source", "value_error"),
    ],
)
def test_a_wrong_value_is_blamed_on_its_parameter(
    client: TestClient, values: dict[str, object], pointer: str, code: str
) -> None:
    given = (
        {name: VALUES[name] for name in ("corpus", "target", "source")} if code != "parameter_missing" else {}
    )

    answer = client.post("/v1/recipes/small-cpu@1/spec", json={**given, **values})

    assert answer.status_code == 422, answer.text
    assert (pointer, code) in [(item["pointer"], item["code"]) for item in answer.json()["errors"]]
    assert answer.json()["hint"]


def test_recipes_over_rest(client: TestClient) -> None:
    listed = client.get("/v1/recipes").json()
    newest, pinned = client.get("/v1/recipes/small-cpu").json(), client.get("/v1/recipes/small-cpu@1").json()
    missing = client.get("/v1/recipes/small-cpu@99")
    made = client.post(
        "/v1/recipes/small-cpu/spec", json={name: VALUES[name] for name in pinned["parameters"]["required"]}
    )

    assert [item["id"] for item in listed["data"]] == list(RECIPES)
    assert newest == pinned
    assert (missing.status_code, missing.json()["code"]) == (404, "recipe_not_found")
    assert "small-cpu@1" in missing.json()["detail"]
    FusionSpec.model_validate(made.json())


def test_places() -> None:
    data = {"a": [{"b": 1}]}

    assert value_at(data, "/a/0/b") == 1
    assert value_at(data, "/a/1") is ABSENT
    assert with_value_at(data, "/a/0/c", 2) == {"a": [{"b": 1, "c": 2}]}
    assert with_value_at({}, "/x/0/y", 3) == {"x": [{"y": 3}]}
    assert data == {"a": [{"b": 1}]}
    assert schema_at("/training/learning_rate")["exclusiveMinimum"] == 0.0
    with pytest.raises(LookupError):
        schema_at("/training/colour")


def test_a_name_alone_is_the_newest_version() -> None:
    assert find_recipe("fusellm").version == max(r.version for r in RECIPES.values() if r.name == "fusellm")


def test_nothing_is_filled_in_silently() -> None:
    with pytest.raises(Unprocessable, match="target"):
        RECIPES["small-cpu@1"].fill({}, base="", origins={})


def assert_holds(found: Any, expected: Any, place: str) -> None:
    """`found` has everything of `expected`; fields that are newer do not matter."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            assert name in found, f"{place}/{name} is gone"
            assert_holds(found[name], value, f"{place}/{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for index, (item, value) in enumerate(zip(found, expected, strict=True)):
            assert_holds(item, value, f"{place}/{index}")
    else:
        assert found == expected, f"{place} is {found!r}, and always was {expected!r}: make a new version"


def filled(recipe: Recipe, values: dict[str, object]) -> FusionSpec:
    return recipe.fill(values, base="", origins={name: f"/{name}" for name in values}).spec()
