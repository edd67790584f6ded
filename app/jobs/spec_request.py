"""Reading a spec from a request: JSON or YAML, with every wrong field named by its pointer."""

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final

import yaml
from fastapi import Depends, Request
from pydantic import ValidationError

from app.errors import BadRequest, FieldProblem, Unprocessable, UnsupportedMediaType
from fusion.spec import FusionSpec
from fusion.spec_text import json_pointer, spec_problems

JSON_MEDIA_TYPE: Final = "application/json"
YAML_MEDIA_TYPES: Final = frozenset({"application/yaml", "application/x-yaml", "text/yaml"})

_YAML_HINT: Final = "check the indentation and the quotes around the place that is named"

SPEC_REQUEST_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            media_type: {"schema": {"$ref": "#/components/schemas/FusionSpec"}}
            for media_type in (JSON_MEDIA_TYPE, "application/yaml")
        },
    }
}
"""For `openapi_extra`: the endpoints read the body themselves."""
OVERRIDES_REQUEST_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": False,
        "content": {
            media_type: {
                "schema": {"type": "object", "title": "Part of a FusionSpec"},
                "example": {"name": "gentler", "training": {"learning_rate": 5e-6}},
            }
            for media_type in (JSON_MEDIA_TYPE, "application/yaml")
        },
    }
}


async def _body(request: Request) -> bytes:
    return await request.body()


def _spec_of_request(request: Request, body: Annotated[bytes, Depends(_body)]) -> FusionSpec:
    return read_spec(body, media_type=_media_type(request))


def _overrides_of_request(request: Request, body: Annotated[bytes, Depends(_body)]) -> dict[str, Any]:
    return _checked_mapping(_parse(body, media_type=_media_type(request))) if body.strip() else {}


SpecOfRequest = Annotated[FusionSpec, Depends(_spec_of_request)]
OverridesOfRequest = Annotated[dict[str, Any], Depends(_overrides_of_request)]


def read_spec(body: bytes, *, media_type: str) -> FusionSpec:
    """Parse and validate a spec.

    Raises:
        UnsupportedMediaType: neither JSON nor YAML.
        BadRequest: the text cannot be parsed.
        Unprocessable: with one entry per wrong field.
    """
    return spec_of_data(_parse(body, media_type=media_type))


def spec_of_data(data: Any) -> FusionSpec:
    """Validate what may be a spec and comes from outside.

    Raises:
        Unprocessable: with one entry per wrong field.
    """
    return parse_spec(_checked_mapping(data))


def parse_spec(data: dict[str, Any]) -> FusionSpec:
    """Validate the data of a spec.

    Raises:
        Unprocessable: with one entry per wrong field.
    """
    try:
        return FusionSpec.model_validate(data)
    except ValidationError as error:
        raise _refusal(field_problems(error)) from error


def field_problems(error: ValidationError) -> list[FieldProblem]:
    """Every problem of a spec, by field."""
    return [
        FieldProblem(pointer=problem.pointer, code=problem.code, detail=problem.message)
        for problem in spec_problems(error)
    ]


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", JSON_MEDIA_TYPE).partition(";")[0].strip().lower()


def _checked_mapping(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise Unprocessable(
            f"a spec is a mapping that starts with api_version: fusion/v1, got {type(data).__name__}",
            code="spec_invalid",
        )
    problems = list(_unstorable(data, ()))
    if problems:
        raise _refusal(problems)
    return data


def _parse(body: bytes, *, media_type: str) -> Any:
    if media_type != JSON_MEDIA_TYPE and media_type not in YAML_MEDIA_TYPES:
        raise UnsupportedMediaType(
            f"a spec is sent as {JSON_MEDIA_TYPE} or application/yaml, got {media_type!r}",
            hint=f"send `Content-Type: application/yaml` or `Content-Type: {JSON_MEDIA_TYPE}`",
        )
    is_json = media_type == JSON_MEDIA_TYPE
    try:
        text = body.decode("utf-8")
        return json.loads(text) if is_json else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise BadRequest(
            f"the body is not valid {'JSON' if is_json else 'YAML'}: {error}",
            code="spec_unreadable",
            hint="send YAML with `Content-Type: application/yaml`" if is_json else _YAML_HINT,
        ) from error


def _refusal(problems: Sequence[FieldProblem]) -> Unprocessable:
    detail = "; ".join(f"{problem.pointer or 'spec'}: {problem.detail}" for problem in problems)
    return Unprocessable(detail, code="spec_invalid", errors=problems)


def _unstorable(value: Any, location: tuple[int | str, ...]) -> Iterator[FieldProblem]:
    """Text that the database cannot hold."""
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            yield FieldProblem(
                pointer=json_pointer(location),
                code="text_not_allowed",
                detail="the text holds a NUL or half of a surrogate pair",
            )
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _unstorable(key, (*location, str(key)))
            yield from _unstorable(item, (*location, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unstorable(item, (*location, index))
