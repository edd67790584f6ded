"""Examples of answers hold what the schemas and the code promise: a stranger builds on them."""

import json
import re
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import TypeAdapter

from app.api_document import operations_of
from app.api_examples import ANSWERS
from app.main import create_app
from app.settings import Settings
from fusion.evaluation.comparison import Comparison
from fusion.evaluation.documents import HeldOutDocument
from fusion.evaluation.report import build_report
from fusion.evaluation.scoring import DocumentScores
from fusion.spec import EvaluationSpec

TOLD = {"Jobs", "Following", "Checkpoints", "Files", "Uploads", "Models", "Artifacts"}
"""Sections in which every JSON answer has an example."""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return create_app(Settings(data_dir=tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def document(app: FastAPI) -> dict[str, Any]:
    # As clients get it.
    found: dict[str, Any] = json.loads(json.dumps(app.openapi()))
    return found


def test_every_example_is_valid_by_its_schema(document: dict[str, Any]) -> None:
    examples = list(examples_of(document))

    assert len(examples) > 80
    for where, schema, example in examples:
        whole = {**schema, "components": document["components"]}
        errors = [error.message for error in jsonschema_rs.iter_errors(whole, example)]
        assert errors == [], where


def test_answers_are_exactly_what_the_code_would_send(app: FastAPI) -> None:
    """Also fields that a schema would let pass: old ones, misspelt ones, ones that are left out."""
    models = answer_models(app)
    for route, answers in ANSWERS.items():
        for status, example in answers.items():
            adapter = TypeAdapter(models[route][status])
            sent = adapter.dump_python(adapter.validate_python(example), mode="json", by_alias=True)
            assert sent == example, f"{route} {status}"


def test_every_answer_of_the_main_routes_has_an_example(document: dict[str, Any]) -> None:
    without = [
        f"{method} {path} {status}"
        for method, path, operation in operations_of(document)
        for status, answer in operation["responses"].items()
        for media_type, media in answer.get("content", {}).items()
        if TOLD & set(operation["tags"]) and media_type == "application/json" and "example" not in media
    ]

    assert without == []


def test_the_report_has_the_shape_that_the_engine_gives_it() -> None:
    example = dict(ANSWERS["GET /v1/jobs/{job_id}/report"][200])
    # Enough of them for an interval.
    documents = [HeldOutDocument(number=number, domain="prose", windows=("text",)) for number in range(20)]
    scores = DocumentScores(nats=np.ones(20), num_tokens=np.ones(20, int), lossless=np.ones(20, bool))
    named = dict.fromkeys(example["overall"]["models"], scores)
    report = build_report(documents, named, settings=EvaluationSpec(), seed=0)

    assert shape({"object": "job_report", "job_id": "job", **report}) == shape(example)
    for told in example["overall"]["comparisons"]:
        facts = {key: value for key, value in told.items() if key not in ("verdict", "sentence")}
        assert Comparison(**facts).to_dict() == told


def examples_of(document: dict[str, Any]) -> Any:
    """(where, schema, example) of everything in a document that has one."""
    for name, schema in document["components"]["schemas"].items():
        given = schema.get("examples", [schema["example"]] if "example" in schema else [])
        for example in given:
            yield name, schema, example
    contents = [
        (f"{method} {path}", part["content"])
        for method, path, operation in operations_of(document)
        for part in (operation.get("requestBody"), *operation["responses"].values())
        if part is not None and "content" in part
    ]
    contents += [(name, one["content"]) for name, one in document["components"]["responses"].items()]
    for where, content in contents:
        for media_type, media in content.items():
            if re.search("json|yaml", media_type) and "schema" in media:
                named = [example["value"] for example in media.get("examples", {}).values()]
                for example in [*named, *([media["example"]] if "example" in media else [])]:
                    yield f"{where} {media_type}", media["schema"], example


def answer_models(app: FastAPI) -> dict[str, dict[int, Any]]:
    """By route and status the class of the answer."""
    routes = [context.route for context in iter_route_contexts(app.routes)]
    return {
        f"{method} {route.path}": {
            route.status_code or 200: route.response_model,
            **{status: answer["model"] for status, answer in route.responses.items() if "model" in answer},
        }
        for route in routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }


def shape(value: Any) -> Any:
    """Names and types, without the values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) else type(value).__name__
