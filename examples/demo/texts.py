"""Real text that every Python installation carries: library code, and the prose that documents it.

Two domains. `code`: functions and classes of the standard library without their docstrings. `prose`:
docstrings and the language reference of `pydoc_data.topics`. A module or topic belongs to one part as a
whole, so that what a model is tested on was never in any model's training text.
"""

import ast
import hashlib
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Literal

Domain = Literal["code", "prose"]
Part = Literal["pretraining", "fusion"]

MAX_DOCUMENT_CHARS = 2000
MIN_DOCUMENT_CHARS = 200
FUSION_SHARE = 0.12
_NOT_LIBRARY = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "encodings",
    "pydoc_data",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    domain: Domain
    text: str


def documents(part: Part) -> list[Document]:
    """The documents of one part, in an order that does not change from run to run."""
    found = [*_library_documents(part), *_topic_documents(part)]
    return sorted(found, key=lambda document: hashlib.sha256(document.text.encode()).digest())


def _library_documents(part: Part) -> Iterator[Document]:
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        if _NOT_LIBRARY.isdisjoint(name.parts) and _part_of(name.as_posix()) == part:
            yield from module_documents(path)


def module_documents(path: Path) -> Iterator[Document]:
    """Functions and classes of one module as code, its docstrings as prose."""
    try:
        module = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return  # a few library files are broken on purpose, to test parsers
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield from cut_text("code", ast.unparse(_without_docstrings(node)))
    for inner in ast.walk(module):
        if isinstance(inner, ast.Module | ast.FunctionDef | ast.ClassDef):
            yield from cut_text("prose", ast.get_docstring(inner) or "")


def _without_docstrings(node: ast.stmt) -> ast.stmt:
    copy = ast.parse(ast.unparse(node)).body[0]
    for inner in ast.walk(copy):
        if isinstance(inner, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) and ast.get_docstring(
            inner
        ):
            inner.body = inner.body[1:] or [ast.Pass()]
    return copy


def _topic_documents(part: Part) -> Iterator[Document]:
    for name, text in sorted(topics.items()):
        if _part_of(name) == part:
            yield from cut_text("prose", text)


def cut_text(domain: Domain, text: str) -> Iterator[Document]:
    """Pieces of at most MAX_DOCUMENT_CHARS that end at a line's end."""
    while len(text) >= MIN_DOCUMENT_CHARS:
        end = len(text) if len(text) <= MAX_DOCUMENT_CHARS else text.rfind("\n", 0, MAX_DOCUMENT_CHARS) + 1
        end = end or MAX_DOCUMENT_CHARS
        yield Document(domain=domain, text=text[:end])
        text = text[end:]


def _part_of(name: str) -> Part:
    return "fusion" if share_of(name) < FUSION_SHARE else "pretraining"


def share_of(name: str) -> float:
    """A number in [0, 1) that is the same on every machine, to divide modules into parts by."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
