"""Specs as text and as plain data: reading them, and saying what is wrong with one."""

import difflib
import functools
import re
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from fusion.errors import SpecInvalid
from fusion.plain_data import DataProblem, Unreadable, data_problems, json_pointer, read_yaml
from fusion.spec import FusionSpec, spec_schema

Location = tuple[int | str, ...]

# Validators that look at several fields start their message with the one to blame: `sources[0].name: ...`.
_NAMED_FIELD: Final = re.compile(r"[a-z_]+(?:\[\d+\]|\.[a-z_]+)+")


NUM_PROBLEMS_TOLD: Final = 30
_LENGTH_SHOWN: Final = 60
_EXPECTED: Final = {
    "hub": "expected org/name, as on the Hugging Face Hub, no address; a local folder goes into path",
    "revision": "expected the full commit hash, 40 hexadecimal digits; branches and tags move",
    "model_id": "expected the id of a registered model, model-...",
    "file_id": "expected the id of an uploaded file, file-...",
    "secret": "expected the name or the id of a secret of the project, never its value",
    "name": "expected a name of lower-case letters, digits, dots, dashes and underscores, at most 63",
    "domain": "expected a label of lower-case letters, digits, dots, dashes and underscores, at most 63",
}
"""What a pattern means, by the field that has it."""


def parse_spec(text: str) -> FusionSpec:
    """Read a spec from YAML or JSON text (JSON is YAML).

    Raises:
        SpecInvalid: names the field, what was received and what is expected.
    """
    try:
        data = read_yaml(text)
    except Unreadable as error:
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
    unkept = data_problems(data)
    if unkept:
        raise _refused(unkept)
    return validate_spec(data)


def validate_spec(data: dict[str, Any]) -> FusionSpec:
    """Validate a spec given as plain data.

    Raises:
        SpecInvalid: with one line per wrong field.
    """
    try:
        return FusionSpec.model_validate(data)
    except ValidationError as error:
        raise _refused(spec_problems(error)) from error


def _refused(problems: list[DataProblem]) -> SpecInvalid:
    return SpecInvalid(
        "; ".join(f"{problem.pointer or 'spec'}: {problem.message}" for problem in problems),
        code="spec_invalid",
        pointer=problems[0].pointer,
        hint="the schema of every field: `fusion schema`, or GET /v1/schemas/fusion-spec",
    )


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


def spec_problems(error: ValidationError) -> list[DataProblem]:
    """Every wrong field that a failed validation of a spec found; of very many the first."""
    items = error.errors(include_url=False, include_context=False)
    problems = [_problem(item) for item in items[:NUM_PROBLEMS_TOLD]]
    if len(items) > NUM_PROBLEMS_TOLD:
        more = f"and {len(items) - NUM_PROBLEMS_TOLD} further problems"
        problems.append(DataProblem(pointer="", code="too_many_problems", message=more))
    return problems


def _problem(item: Any) -> DataProblem:
    location, message, code = item["loc"], item["msg"].removeprefix("Value error, "), item["type"]
    if code == "extra_forbidden":
        message = _unknown_field(location)
    elif code == "value_error":
        location = _blamed_location(location, message)
    elif code == "string_pattern_mismatch" and location[-1] in _EXPECTED:
        # What stands where a secret's name should may be its value.
        got = "" if location[-1] == "secret" else f"; got {_shown(item['input'])}"
        message = f"{_EXPECTED[str(location[-1])]}{got}"
    elif code == "model_type":
        known = ", ".join(_fields_at(location))
        message = f"expected a mapping with fields of: {known}; got {_shown(item['input'])}"
    return DataProblem(pointer=json_pointer(_shortened(location)), code=code, message=message)


def _shown(value: object) -> str:
    """What was received, as far as a message should repeat it."""
    text = repr(value)
    return text if len(text) <= _LENGTH_SHOWN else f"{text[:_LENGTH_SHOWN]}..."


def _shortened(location: Location) -> Location:
    """A key of a stranger's can be as long as the request."""
    return tuple(part if isinstance(part, int) else part[:200] for part in location)


def _unknown_field(location: Location) -> str:
    name, known = str(location[-1])[:200], _fields_at(location[:-1])
    close = difflib.get_close_matches(name, known, n=1)
    way_out = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
    return f"there is no field {name!r}; {way_out}"


def _fields_at(location: Location) -> list[str]:
    """Names of the fields of the section at `location`, by the schema."""
    schema = _schema()
    node = schema
    for part in location:
        node = _resolved(node, schema)
        node = node["items"] if isinstance(part, int) else node["properties"][part]
    return list(_resolved(node, schema)["properties"])


@functools.cache
def _schema() -> dict[str, Any]:
    return spec_schema()


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
