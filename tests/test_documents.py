"""Documents that are written from the code, or describe it, agree with it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MARKDOWN = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/**/*.md")])


def test_the_spec_reference_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/write_spec_reference.py", "--check"], cwd=ROOT, check=False
    )
    assert done.returncode == 0, "run: python scripts/write_spec_reference.py"


def test_the_api_reference_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/write_api_reference.py", "--check"], cwd=ROOT, check=False
    )
    assert done.returncode == 0, "run: make contract"


def test_the_tree_in_architecture_equals_the_folders() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^((?:app|workers|fusion)/(?:\w+/)?)\s", text, re.MULTILINE))
    packages = {f"{path.parent.relative_to(ROOT).as_posix()}/" for path in ROOT.glob("*/__init__.py")}
    packages |= {f"{path.parent.relative_to(ROOT).as_posix()}/" for path in ROOT.glob("*/*/__init__.py")}
    assert told == {name for name in packages if name.split("/")[0] in {"app", "workers", "fusion"}}


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_constraints_hold_no_addresses_and_no_torch() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert not [line for line in lines if "://" in line or line.startswith("torch==")]
