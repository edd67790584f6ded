"""The OpenAPI document as a file, so that a change of the contract is seen in a diff.

python -m tests.contracts.document            # write
python -m tests.contracts.document --check    # print what differs, and end with 1 when something does
"""

import difflib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from app.main import create_app
from app.settings import Settings

SNAPSHOT = Path(__file__).parent / "openapi.json"
MAX_LINES_SHOWN = 200


def current_document() -> dict[str, Any]:
    """What the API says of itself now. The release is left out: it changes without the contract."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder)))
        document = app.openapi()
        app.state.engine.dispose()
    return {**document, "info": {**document["info"], "version": "-"}}


def as_text(document: dict[str, Any]) -> str:
    """One fact a line, in an order of its own."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def difference() -> list[str]:
    """What differs from the snapshot, as a diff; empty when nothing does."""
    kept = SNAPSHOT.read_text(encoding="utf-8") if SNAPSHOT.is_file() else ""
    lines = (kept.splitlines(), as_text(current_document()).splitlines())
    return list(difflib.unified_diff(*lines, "tests/contracts/openapi.json", "the API now", n=2, lineterm=""))


def main() -> int:
    if "--check" not in sys.argv:
        SNAPSHOT.write_text(as_text(current_document()), encoding="utf-8")
        return 0
    found = difference()
    print("\n".join(found[:MAX_LINES_SHOWN]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
