"""A small valid body for a route, made from the OpenAPI document."""

from typing import Any


def example_body(document: dict[str, Any], operation: dict[str, Any] | None) -> Any:
    """JSON for the body of an operation: what it requires and nothing else; None where it has none."""
    content = (operation or {}).get("requestBody", {}).get("content", {})
    media = content.get("application/json")
    if media is None:
        return None
    if "example" in media:
        return media["example"]
    for example in media.get("examples", {}).values():
        return example["value"]
    return _example(document, media["schema"])


def _example(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    if "$ref" in schema:
        return _example(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    for values in ("examples", "enum"):
        if schema.get(values):
            return schema[values][0]
    if "const" in schema:
        return schema["const"]
    for choices in ("anyOf", "oneOf", "allOf"):
        if choices in schema:
            return _example(document, schema[choices][0])
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {name: _example(document, properties[name]) for name in schema.get("required", [])}
        case "array":
            return [_example(document, schema["items"]) for _ in range(schema.get("minItems", 0))]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return "x" * max(1, schema.get("minLength", 1))
