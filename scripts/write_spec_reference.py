"""Write docs/spec.md from the spec's own classes, so that the reference cannot drift from the code.

python scripts/write_spec_reference.py            # write
python scripts/write_spec_reference.py --check    # exit 1 when it is out of date
"""

import json
import sys
from pathlib import Path
from typing import Any

from fusion.spec import PRESETS, spec_schema

TARGET = Path(__file__).parent.parent / "docs" / "spec.md"

INTRODUCTION = """# The fusion spec

Every field, its default and its meaning; written by `python scripts/write_spec_reference.py` from the code.
A spec is YAML or JSON. Unknown fields are errors. `fusion validate --json spec.yaml` prints a spec with
every default written out; `fusion schema` prints the JSON Schema for editors.
"""


def render_reference() -> str:
    """The whole page."""
    schema = spec_schema()
    sections = [INTRODUCTION, _section("Top level", schema)]
    sections += [_section(name, definition) for name, definition in schema["$defs"].items()]
    sections.append(_presets())
    return "\n".join(sections)


def _section(name: str, definition: dict[str, Any]) -> str:
    rows = [
        f"| `{field}` | {_type(facts)} | {_default(field, facts, definition)} | {_meaning(facts)} |"
        for field, facts in definition["properties"].items()
    ]
    head = [f"## {name}\n", f"{definition.get('description', '')}\n", "| field | type | default | meaning |"]
    return "\n".join([*head, "|---|---|---|---|", *rows, ""])


def _type(facts: dict[str, Any]) -> str:
    if "$ref" in facts:
        name = facts["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "enum" in facts or "const" in facts:
        return ", ".join(f"`{value}`" for value in facts.get("enum", [facts.get("const")]))
    if "anyOf" in facts:
        return " or ".join(_type(option) for option in facts["anyOf"] if option.get("type") != "null")
    if facts.get("type") == "array":
        return f"list of {_type(facts['items'])}"
    if facts.get("type") == "object":
        return f"name -> {_type(facts['additionalProperties'])}"
    return str(facts.get("type", "")) + _bounds(facts)


def _bounds(facts: dict[str, Any]) -> str:
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return "".join(f", {word} {facts[key]:g}" for key, word in words.items() if key in facts)


def _default(field: str, facts: dict[str, Any], definition: dict[str, Any]) -> str:
    if field in definition.get("required", []):
        return "required"
    value = facts.get("default")
    return "" if value is None or isinstance(value, dict) else f"`{json.dumps(value)}`"


def _meaning(facts: dict[str, Any]) -> str:
    return str(facts.get("description", "")).replace("\n", " ").replace("|", "\\|")


def _presets() -> str:
    overrides = json.dumps(PRESETS["paper"], indent=2)
    return f"## Presets\n\n`default` is the defaults above. `paper` changes:\n\n```json\n{overrides}\n```\n"


def main() -> int:
    page = render_reference()
    if "--check" in sys.argv:
        return 0 if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == page else 1
    TARGET.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
