"""`/docs`: the OpenAPI document as a page that loads nothing, from nowhere. Pure."""

import json
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, Final

from app.api_document import SCOPE_FIELD, operations_of

CONTENT_SECURITY_POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { background: #8881; padding: .6rem; overflow: auto; }
summary { cursor: pointer; padding: .2rem 0; }
td { vertical-align: top; padding: .15rem .8rem .15rem 0; }
details > *:not(summary) { margin-left: 1.2rem; }
"""


def page_of(document: dict[str, Any]) -> str:
    """The whole page, in HTML."""
    info = document["info"]
    schemas = sorted(document["components"]["schemas"].items())
    body = [
        _element("h1", escape(f"{info['title']} {info['version']}")),
        _element("p", escape(info.get("summary", ""))),
        _element("p", "Every guarded route takes ", _code("Authorization: Bearer fus_...")),
        *(_section(document, tag) for tag in document["tags"]),
        _element("h2", "Refusals"),
        *(_refusal(response) for response in document["components"].get("responses", {}).values()),
        _element("h2", "Schemas"),
        *(_schema(name, schema) for name, schema in schemas),
    ]
    head = _element("title", escape(f"{info['title']} API")) + _element("style", _STYLE)
    return f'<!doctype html>\n<html lang="en"><meta charset="utf-8">{head}{_element("body", *body)}</html>\n'


def _section(document: dict[str, Any], tag: dict[str, str]) -> str:
    return "".join(
        [
            _element("h2", escape(tag["name"])),
            _element("p", escape(tag["description"])),
            *(
                _operation(method, path, operation)
                for method, path, operation in operations_of(document)
                if tag["name"] in operation.get("tags", ())
            ),
        ]
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    scope = operation.get(SCOPE_FIELD) or ("any key" if "security" in operation else "no key")
    first, *rest = operation.get("description", "").split("\n\n")
    summary = _element(
        "summary", _code(f"{method} {path}"), escape(f" {first} "), _element("i", escape(scope))
    )
    parts = [
        *(_element("p", escape(text)) for text in rest),
        _table(_parameter(one) for one in operation.get("parameters", ())),
        *_bodies(operation),
        _table(
            (status, escape(_description(answer)), _content(answer))
            for status, answer in operation["responses"].items()
        ),
        *_answers(operation),
    ]
    return _element("details", summary, *parts, id=operation["operationId"])


def _parameter(one: dict[str, Any]) -> tuple[str, ...]:
    place = f"{one['in']}, required" if one.get("required") else one["in"]
    return _code(one["name"]), place, _type(one["schema"]), escape(one.get("description", ""))


def _bodies(operation: dict[str, Any]) -> Iterator[str]:
    for media_type, media in operation.get("requestBody", {}).get("content", {}).items():
        yield _element("p", "Body: ", _code(media_type), " ", _type(media["schema"]))
        if "example" in media:
            yield _json(media["example"])


def _answers(operation: dict[str, Any]) -> Iterator[str]:
    """Examples of what comes back."""
    for status, answer in operation["responses"].items():
        for example in _examples(answer):
            shown = _element("pre", escape(example)) if isinstance(example, str) else _json(example)
            yield _element("details", _element("summary", f"Example of {escape(status)}"), shown)


def _refusal(response: dict[str, Any]) -> str:
    examples = list(_examples(response))
    statuses = [_code(str(example["status"])) + " " for example in examples]
    summary = _element("summary", *statuses, escape(response["description"]))
    return _element("details", summary, *(_json(example) for example in examples))


def _examples(answer: dict[str, Any]) -> Iterator[Any]:
    return (media["example"] for media in answer.get("content", {}).values() if "example" in media)


def _description(answer: dict[str, Any]) -> str:
    return str(answer.get("description") or answer["$ref"].rpartition("/")[2])


def _content(answer: dict[str, Any]) -> str:
    if "$ref" in answer:
        return _type({"$ref": "/Problem"})
    content = answer.get("content", {}).items()
    return " ".join(f"{_code(media_type)} {_type(media.get('schema', {}))}" for media_type, media in content)


def _schema(name: str, schema: dict[str, Any]) -> str:
    first = schema.get("description", "").partition("\n\n")[0]
    fields = _table(
        (
            _code(field),
            "required" if field in schema.get("required", ()) else "",
            _type(facts),
            escape(facts.get("description", "")),
        )
        for field, facts in schema.get("properties", {}).items()
    )
    examples = [schema["example"]] if "example" in schema else schema.get("examples", [])
    parts = [fields or _element("p", _type(schema)), *(_json(example) for example in examples)]
    return _element("details", _element("summary", _code(name), escape(f" {first}")), *parts, id=name)


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _element("a", escape(name), href=f"#{name}")
    if "enum" in schema or "const" in schema:
        return ", ".join(_code(str(value)) for value in schema.get("enum", [schema.get("const")]))
    for word in ("anyOf", "oneOf"):
        if word in schema and "type" not in schema:
            return " or ".join(_type(choice) for choice in schema[word])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return escape(str(schema.get("type", "anything")))


def _table(rows: Iterable[Iterable[str]]) -> str:
    found = [_element("tr", *(_element("td", cell) for cell in row)) for row in rows]
    return _element("table", *found) if found else ""


def _json(value: Any) -> str:
    return _element("pre", escape(json.dumps(value, indent=2)))


def _code(text: str) -> str:
    return _element("code", escape(text))


def _element(name: str, *inner: str, **attributes: str) -> str:
    """An element around HTML that is made already; attributes are text."""
    given = "".join(f' {key}="{escape(value)}"' for key, value in attributes.items())
    return f"<{name}{given}>{''.join(inner)}</{name}>"
