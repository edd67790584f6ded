"""What the OpenAPI document says of every route alike: derived from the routes, not written at each of them.

Which key a route needs follows from `app.accounts.access`; which refusals are possible follows from that and
from what the route takes. What only one route can answer with stands at that route.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from app.accounts.access import OPEN_PATHS, needed_scope
from app.api_examples import ANSWERS, refusal_example
from app.errors import (
    API_ERRORS,
    ApiError,
    BadRequest,
    ContentTooLarge,
    Forbidden,
    NotFound,
    Unauthorized,
    Unprocessable,
    problem_responses,
)
from app.known_parameters import LENIENT_TAGS
from app.problems import Problem
from fusion.spec import FusionSpec

SECURITY_SCHEME: Final = "api_key"
SCOPE_FIELD: Final = "x-scope"
"""In an operation: the scope that it needs; null where any key does."""
_SCHEMA_REF: Final = "#/components/schemas/{model}"
_FRAMEWORKS: Final = "HTTPValidationError"
_TAGS: Final = {
    "Jobs": "Submit a fusion, follow it, change your mind.",
    "Following": "What happens to a job, as it happens: events, logs, metrics.",
    "Checkpoints": "What a training has stored on its way, to fetch or to promote.",
    "Recipes": "Specs with a name, to submit again.",
    "Files": "Text to fuse on.",
    "Uploads": "Large files in parts, as OpenAI's clients send them.",
    "Models": "Checkpoints that specs name, and fused models.",
    "Publications": "Models, copied to where others fetch them.",
    "Artifacts": "What jobs stored, and its bytes.",
    "Hub": "Fused models at the paths of the Hugging Face Hub.",
    "OpenAI": "The paths of OpenAI's API, for its clients.",
    "Webhooks": "Being told what happens.",
    "Secrets": "Tokens that jobs need and nobody reads again.",
    "API keys": "Keys of a project.",
    "Projects": "The tenants of the service, and what they use.",
    "Audit": "Who asked for which change.",
    "Operations": "Health, capabilities and schemas.",
}


def finish_document(document: dict[str, Any]) -> dict[str, Any]:
    """The document with shared schemas, tags, and for every operation its key, its scope and its refusals."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in (FusionSpec, Problem):
        schema = model.model_json_schema(ref_template=_SCHEMA_REF)
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    for name in (_FRAMEWORKS, "ValidationError"):
        schemas.pop(name, None)
    shared = {error.__name__: response for error in API_ERRORS for response in _responses_of(error)}
    document["components"]["responses"] = {
        name: _with_example(response, refusal_example(error))
        for error, (name, response) in zip(API_ERRORS, shared.items(), strict=True)
    }
    _close(schemas)
    used = set[str]()
    for method, path, operation in operations_of(document):
        used.update(operation.get("tags", ()))
        _finish(operation, method=method, path=path)
        for status, example in ANSWERS.get(f"{method} {path}", {}).items():
            _show(operation["responses"][str(status)], example)
        operation["responses"] = {
            status: _named(response, shared) for status, response in sorted(operation["responses"].items())
        }
    first = [tag for tag in _TAGS if tag in used]
    document["tags"] = [
        {"name": tag, "description": _TAGS.get(tag, tag)} for tag in [*first, *sorted(used - set(first))]
    ]
    return document


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(method in upper case, path, operation) of everything in a document."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), path, operation


def _finish(operation: dict[str, Any], *, method: str, path: str) -> None:
    is_open = path in OPEN_PATHS
    if is_open:
        operation.pop("security", None)
    else:
        operation["security"] = [{SECURITY_SCHEME: []}]
        operation[SCOPE_FIELD] = needed_scope(method, path)
    if _FRAMEWORKS in str(operation["responses"].get("422")):
        # FastAPI adds its own, in a shape that `app.problems` does not send.
        del operation["responses"]["422"]
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _without_null(parameter["schema"])
    for status, response in problem_responses(*_refusals(operation, path, is_open=is_open)).items():
        operation["responses"].setdefault(str(status), response)


def _refusals(operation: dict[str, Any], path: str, *, is_open: bool) -> Iterable[type[ApiError]]:
    if not is_open:
        yield Unauthorized
        # A header names a project that the caller cannot see.
        yield NotFound
        if operation[SCOPE_FIELD] is not None:
            yield Forbidden
    if re.search(r"{\w+}", path):
        yield NotFound
    if operation.get("parameters") or not (is_open or LENIENT_TAGS.intersection(operation["tags"])):
        yield Unprocessable
    if "requestBody" in operation:
        yield BadRequest
        yield ContentTooLarge
        yield Unprocessable


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is absent or has a value; in JSON it might be null, in an URL or a header it cannot."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) != 1:
        return schema
    only: dict[str, Any] = choices[0]
    return only | {key: value for key, value in schema.items() if key != "anyOf"}


def _close(schema: Any) -> None:
    """Keys that no pattern allows are refused; pydantic says so only where it is told to."""
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _close(part)
    if isinstance(schema, dict) and "patternProperties" in schema:
        schema.setdefault("additionalProperties", False)


def _responses_of(error: type[ApiError]) -> Iterable[dict[str, Any]]:
    return problem_responses(error).values()


def _show(response: dict[str, Any], example: Any) -> None:
    """Put an example beside the schema of an answer."""
    response["content"]["application/json"]["example"] = example


def _with_example(response: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    content = {media: {**facts, "example": example} for media, facts in response["content"].items()}
    return {**response, "content": content}


def _named(response: dict[str, Any], shared: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A reference where the response is one of the shared ones."""
    name = next((name for name, one in shared.items() if one == response), None)
    return response if name is None else {"$ref": f"#/components/responses/{name}"}
