"""Write docs/api.md from the OpenAPI document and the table of scopes, so that it cannot drift from the code.

python scripts/write_api_reference.py            # write
python scripts/write_api_reference.py --check    # exit 1 when it is out of date
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.api_document import SCOPE_FIELD, operations_of
from app.main import create_app
from app.settings import Settings

TARGET = Path(__file__).parent.parent / "docs" / "api.md"

INTRODUCTION = """# Every route

Written by `python scripts/write_api_reference.py` from the code; `/openapi.json` of a running service says
more: every field, every header, examples. [access.md](access.md) says what scopes are.

Refusals are problems (RFC 9457, `application/problem+json`) with a stable `code`, the `errors` by field and a
`hint`. Every guarded route can answer 401 (no key, or none that works), 403 (the scope is missing) and 404
(`OpenAI-Project` names a project that the key does not see), and every route 500 and 503; the tables
name the others. A guarded route refuses a query parameter that it does not know (422, `query_unknown`), so
that a misspelt filter is not taken for none; only those of the sections OpenAI and Hub let it pass.

Lists are pages: `{"object": "list", "data": [...], "first_id", "last_id", "has_more"}`. The examples tell of
one job; `...` stands for the rest of an object, times are Unix seconds.
"""
_WIDTH = 110
_MAX_NESTED_LETTERS = 700
_TYPICAL = frozenset({404, 409, 422, 429})
_EVERYWHERE = frozenset({"401", "403", "404", "500", "503"})


def render_reference() -> str:
    """The whole page."""
    document = _document()
    sections = [_section(document, tag) for tag in document["tags"]]
    return "\n".join([INTRODUCTION, *sections, _refusals(document)])


def _document() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder)))
        document: dict[str, Any] = app.openapi()
        app.state.engine.dispose()
    return document


def _section(document: dict[str, Any], tag: dict[str, str]) -> str:
    head = [f"## {tag['name']}\n", f"{tag['description']}\n", "| route | scope | | also answers |"]
    rows = list(_rows(document, tag["name"]))
    return "\n".join([*head, "|---|---|---|---|", *rows, "", *_answers(document, tag["name"])])


def _answers(document: dict[str, Any], tag: str) -> Iterator[str]:
    """What the routes of a section answer with: an example of every schema, but of no page of things that
    have a route of their own."""
    paths, chosen = list(document["paths"]), dict[str, tuple[str, Any]]()
    for method, path, operation in operations_of(document):
        if tag not in operation.get("tags", ()):
            continue
        for status, answer in operation["responses"].items():
            media = answer.get("content", {}).get("application/json", {})
            schema = json.dumps(media.get("schema"))
            is_page = "ListOf_" in schema and any(other.startswith(f"{path}/{{") for other in paths)
            # What is only read is told of by the route that reads it.
            if "example" in media and not is_page and (method == "GET" or schema not in chosen):
                chosen[schema] = (f"`{method} {path}`, {status}", media["example"])
    for head, example in chosen.values():
        yield f"{head}:\n\n{_block(example)}"


def _refusals(document: dict[str, Any]) -> str:
    """An example of each kind of problem."""
    head = "## Refusals\n\nWhat went wrong, and the way out.\n"
    found = document["components"]["responses"].values()
    examples = [answer["content"]["application/problem+json"]["example"] for answer in found]
    typical = [example for example in examples if example["status"] in _TYPICAL]
    return "\n".join([head, *(f"{one['status']}:\n\n{_block(one)}" for one in typical)])


def _block(value: Any) -> str:
    """JSON between fences."""
    return f"```\n{compact_json(value)}\n```\n"


def compact_json(value: Any, *, depth: int = 0) -> str:
    """JSON in few lines; an object in another one that is long is cut after its first field."""
    line = json.dumps(value, ensure_ascii=False)
    inner = 2 * (depth + 1)
    if len(line) + inner < _WIDTH or not value or not isinstance(value, dict | list):
        return line
    if isinstance(value, list):
        return "[" + _filled([compact_json(item, depth=depth + 1) for item in value], inner) + "]"
    parts = [f"{json.dumps(name)}: {_field(item, depth=depth + 1)}" for name, item in value.items()]
    return "{" + _filled(parts, inner) + "}"


def _field(value: Any, *, depth: int) -> str:
    line = json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict) and len(line) > _MAX_NESTED_LETTERS:
        name, first = next(iter(value.items()))
        return f"{{{json.dumps(name)}: {json.dumps(first)}, ...}}"
    return compact_json(value, depth=depth)


def _filled(parts: list[str], indent: int) -> str:
    """Parts one after the other, as many on a line as fit; one of several lines stands alone."""
    lines: list[str] = []
    for part in parts:
        room = lines and "\n" not in lines[-1] + part and len(lines[-1]) + len(part) + indent + 2 < _WIDTH
        if room:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    pad = "\n" + " " * indent
    return pad + f",{pad}".join(lines) + pad[:-2]


def _rows(document: dict[str, Any], tag: str) -> Iterator[str]:
    for method, path, operation in operations_of(document):
        if tag in operation.get("tags", ()):
            others = [
                status
                for status in operation["responses"]
                if status not in _EVERYWHERE and not status.startswith("2")
            ]
            meaning = operation.get("description", "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
            yield f"| `{method} {path}` | {_scope(operation)} | {meaning} | {', '.join(others)} |"


def _scope(operation: dict[str, Any]) -> str:
    if "security" not in operation:
        return "no key"
    scope = operation[SCOPE_FIELD]
    return "any key" if scope is None else f"`{scope}`"


def main() -> int:
    page = render_reference()
    if "--check" in sys.argv:
        return 0 if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == page else 1
    TARGET.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
