"""Reading a spec from a request: JSON or YAML, with every wrong field named by its pointer."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from pydantic import ValidationError

from app.errors import BadRequest, FieldProblem, Unprocessable, UnsupportedMediaType
from fusion.plain_data import DataProblem, Unreadable, data_problems, read_json, read_yaml
from fusion.spec import FusionSpec
from fusion.spec_text import spec_problems

JSON_MEDIA_TYPE: Final = "application/json"
MERGE_PATCH_MEDIA_TYPE: Final = "application/merge-patch+json"
YAML_MEDIA_TYPES: Final = frozenset({"application/yaml", "application/x-yaml", "text/yaml"})

_EXPECTED: Final = "a spec is a mapping that starts with api_version: fusion/v1"
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
            for media_type in (JSON_MEDIA_TYPE, MERGE_PATCH_MEDIA_TYPE, "application/yaml")
        },
    }
}


async def _body(request: Request) -> bytes:
    return await request.body()


def _spec_of_request(request: Request, body: Annotated[bytes, Depends(_body)]) -> FusionSpec:
    return read_spec(body, media_type=_media_type(request))


def _overrides_of_request(request: Request, body: Annotated[bytes, Depends(_body)]) -> dict[str, Any]:
    media_type = _media_type(request)
    media_type = JSON_MEDIA_TYPE if media_type == MERGE_PATCH_MEDIA_TYPE else media_type
    expected = "changes are a mapping, a part of a spec"
    return _checked_mapping(_parse(body, media_type=media_type), expected=expected) if body.strip() else {}


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
        raise _refusal(spec_problems(error)) from error


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", JSON_MEDIA_TYPE).partition(";")[0].strip().lower()


def _checked_mapping(data: Any, *, expected: str = _EXPECTED) -> dict[str, Any]:
    if not isinstance(data, dict):
        got = "nothing" if data is None else type(data).__name__
        raise _refusal([DataProblem(pointer="", code="mapping_expected", message=f"{expected}, got {got}")])
    problems = data_problems(data)
    if problems:
        raise _refusal(problems)
    return data


def _parse(body: bytes, *, media_type: str) -> Any:
    if media_type != JSON_MEDIA_TYPE and media_type not in YAML_MEDIA_TYPES:
        raise UnsupportedMediaType(
            f"a spec is sent as {JSON_MEDIA_TYPE} or application/yaml, got {media_type[:100]!r}",
            hint=f"send `Content-Type: application/yaml` or `Content-Type: {JSON_MEDIA_TYPE}`",
            errors=[_whole("header:content-type", "unsupported_media_type", "neither JSON nor YAML")],
        )
    is_json = media_type == JSON_MEDIA_TYPE
    if not body.strip():
        raise _unreadable("the body is empty", hint="send the spec in the body: `curl --json @spec.json`")
    try:
        text = body.decode("utf-8-sig")
        return read_json(text) if is_json else read_yaml(text)
    except UnicodeDecodeError as error:
        raise _unreadable(
            f"the body is not valid {'JSON' if is_json else 'YAML'}: byte {error.start} is not UTF-8",
            hint="save the spec as UTF-8",
        ) from error
    except Unreadable as error:
        raise _unreadable(
            f"the body is not valid {'JSON' if is_json else 'YAML'}: {error}",
            hint="send YAML with `Content-Type: application/yaml`" if is_json else _YAML_HINT,
        ) from error


def _unreadable(detail: str, *, hint: str) -> BadRequest:
    whole = _whole("", "spec_unreadable", detail)
    return BadRequest(detail, code="spec_unreadable", hint=hint, errors=[whole])


def _whole(pointer: str, code: str, detail: str) -> FieldProblem:
    return FieldProblem(pointer=pointer, code=code, detail=detail)


def _refusal(problems: Sequence[DataProblem]) -> Unprocessable:
    fields = [
        FieldProblem(pointer=problem.pointer, code=problem.code, detail=problem.message)
        for problem in problems
    ]
    detail = "; ".join(f"{problem.pointer or 'spec'}: {problem.message}" for problem in problems)
    return Unprocessable(detail, code="spec_invalid", errors=fields)
