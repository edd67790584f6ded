"""Specs as text and as plain data: reading them, and saying what is wrong with one."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from fusion.errors import SpecInvalid
from fusion.spec import FusionSpec, spec_schema

Location = tuple[int | str, ...]

# Validators that look at several fields start their message with the one to blame: `sources[0].name: ...`.
_NAMED_FIELD: Final = re.compile(r"[a-z_]+(?:\[\d+\]|\.[a-z_]+)+")


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecProblem:
    """One wrong field: its JSON pointer (RFC 6901), a code for programs, and what is wrong with it."""

    pointer: str
    code: str
    message: str


def parse_spec(text: str) -> FusionSpec:
    """Read a spec from YAML or JSON text (JSON is YAML).

    Raises:
        SpecInvalid: names the field, what was received and what is expected.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecInvalid(
            f"the spec is neither YAML nor JSON: {error}",
            code="spec_unreadable",
            hint="check the indentation and the quotes around the place that is named",
        ) from error
    if not isinstance(data, dict):
        raise SpecInvalid(
            f"a spec is a mapping of fields, got {type(data).__name__}",
            code="spec_unreadable",
            hint="start with `api_version: fusion/v1`",
        )
    return validate_spec(data)


def validate_spec(data: dict[str, Any]) -> FusionSpec:
    """Validate a spec given as plain data.

    Raises:
        SpecInvalid: with one line per wrong field.
    """
    try:
        return FusionSpec.model_validate(data)
    except ValidationError as error:
        problems = spec_problems(error)
        raise SpecInvalid(
            "; ".join(f"{problem.pointer or 'spec'}: {problem.message}" for problem in problems),
            code="spec_invalid",
            pointer=problems[0].pointer,
            hint="the schema of every field: `fusion schema`, or GET /v1/schemas/fusion-spec",
        ) from error


def load_spec(path: Path) -> FusionSpec:
    """Read a spec file; relative paths in it are relative to the file.

    Raises:
        SpecInvalid: no such file, not UTF-8, or not a spec.
    """
    if not path.is_file():
        raise SpecInvalid(
            f"no spec at {path}", code="spec_unreadable", hint="give the path of a YAML or JSON file"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SpecInvalid(
            f"{path} is not UTF-8: {error}", code="spec_unreadable", hint="save the file as UTF-8"
        ) from error
    return absolute_paths(parse_spec(text), base=path.parent)


def absolute_paths(spec: FusionSpec, *, base: Path) -> FusionSpec:
    """The same spec with every relative local path resolved against `base`."""
    data = spec.model_dump(mode="json")
    refs = [
        data["target"]["model"],
        *(source["model"] for source in data["sources"]),
        *data["corpus"]["files"],
    ]
    for ref in refs:
        if ref.get("path") is not None:
            ref["path"] = str((base / Path(ref["path"]).expanduser()).resolve())
    return FusionSpec.model_validate(data)


def spec_problems(error: ValidationError) -> list[SpecProblem]:
    """Every wrong field that a failed validation of a spec found."""
    problems = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        location, message = item["loc"], item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = _unknown_field(location)
        elif item["type"] == "value_error":
            location = _blamed_location(location, message)
        problems.append(SpecProblem(pointer=json_pointer(location), code=item["type"], message=message))
    return problems


def json_pointer(location: Sequence[int | str]) -> str:
    """RFC 6901 pointer of a path of keys and indices; the empty path is the whole document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def _unknown_field(location: Location) -> str:
    name, known = str(location[-1]), _fields_at(location[:-1])
    close = difflib.get_close_matches(name, known, n=1)
    way_out = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
    return f"there is no field {name!r}; {way_out}"


def _fields_at(location: Location) -> list[str]:
    """Names of the fields of the section at `location`, by the schema."""
    schema = spec_schema()
    node = schema
    for part in location:
        node = _resolved(node, schema)
        node = node["items"] if isinstance(part, int) else node["properties"][part]
    return list(_resolved(node, schema)["properties"])


def _resolved(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The definition behind a reference, optional or not."""
    node = next((option for option in node.get("anyOf", []) if "$ref" in option), node)
    found: dict[str, Any] = schema["$defs"][node["$ref"].rsplit("/", 1)[1]] if "$ref" in node else node
    return found


def _blamed_location(location: Location, message: str) -> Location:
    named = _NAMED_FIELD.match(message)
    if named is None:
        return location
    words = named.group().replace("[", ".").replace("]", "").split(".")
    path: Location = tuple(int(word) if word.isdigit() else word for word in words)
    return (*location, *path[1:]) if location and location[-1] == path[0] else (*location, *path)
