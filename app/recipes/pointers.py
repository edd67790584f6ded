"""Places in a spec by their JSON pointers (RFC 6901), as far as recipes need them. Pure."""

from typing import Any, Final

from fusion.spec import spec_schema

ABSENT: Final = object()


def parts_of(pointer: str) -> list[str | int]:
    """Keys and indices of a pointer; a number is an index."""
    words = (word.replace("~1", "/").replace("~0", "~") for word in pointer.split("/")[1:])
    return [int(word) if word.isdecimal() else word for word in words]


def value_at(data: Any, pointer: str) -> Any:
    """What is there; ABSENT where nothing is."""
    for part in parts_of(pointer):
        if isinstance(part, int):
            if not isinstance(data, list) or part >= len(data):
                return ABSENT
            data = data[part]
        elif not isinstance(data, dict) or part not in data:
            return ABSENT
        else:
            data = data[part]
    return data


def with_value_at(data: Any, pointer: str, value: Any) -> Any:
    """A copy with `value` there; objects and lists on the way are made where there are none.

    What stands in the way (a text where an object is needed) is replaced; indices do not skip.
    """
    return _with(data, parts_of(pointer), value)


def schema_at(pointer: str) -> dict[str, Any]:
    """Schema of a field of the spec, references followed and `null` left out.

    Raises:
        LookupError: the spec has no such field.
    """
    schema = spec_schema()
    node: dict[str, Any] = schema
    for part in parts_of(pointer):
        node = node["items"] if isinstance(part, int) else node["properties"][part]
        node = _resolved(node, schema)
    return node


def _with(data: Any, parts: list[str | int], value: Any) -> Any:
    if not parts:
        return value
    first, *rest = parts
    if isinstance(first, int):
        items = list(data) if isinstance(data, list) else []
        below = items[first] if first < len(items) else None
        return [*items[:first], _with(below, rest, value), *items[first + 1 :]]
    fields = dict(data) if isinstance(data, dict) else {}
    return {**fields, first: _with(fields.get(first), rest, value)}


def _resolved(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    told = {name: node[name] for name in ("default", "description") if name in node}
    chosen = next((option for option in node.get("anyOf", []) if option.get("type") != "null"), node)
    if "$ref" in chosen:
        chosen = schema["$defs"][chosen["$ref"].rsplit("/", 1)[1]]
    return {**chosen, **told}
