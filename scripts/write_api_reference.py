"""Write docs/api.md from the OpenAPI document and the table of scopes, so that it cannot drift from the code.

python scripts/write_api_reference.py            # write
python scripts/write_api_reference.py --check    # exit 1 when it is out of date
"""

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
name the others.
"""
_EVERYWHERE = frozenset({"401", "403", "404", "500", "503"})


def render_reference() -> str:
    """The whole page."""
    document = _document()
    return "\n".join([INTRODUCTION, *(_section(document, tag) for tag in document["tags"])])


def _document() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder)))
        document: dict[str, Any] = app.openapi()
        app.state.engine.dispose()
    return document


def _section(document: dict[str, Any], tag: dict[str, str]) -> str:
    head = [f"## {tag['name']}\n", f"{tag['description']}\n", "| route | scope | | also answers |"]
    return "\n".join([*head, "|---|---|---|---|", *_rows(document, tag["name"]), ""])


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
