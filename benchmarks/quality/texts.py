"""Text for the quality benchmark: the standard library and the libraries this project installs.

Two domains, as in the demo: `code` is functions and classes without their docstrings, `prose` is docstrings
and the language reference. A module belongs to one part as a whole: what the models are pretrained on, what
they are fused on and what they are tested on never share a module. The libraries' versions are those of
`constraints.txt`.
"""

import functools
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Literal

from examples.demo.texts import Document, cut_text, module_documents, share_of

Part = Literal["pretraining", "fusion", "held_out"]

_HELD_OUT_SHARE = 0.05
_FUSION_SHARE = 0.10
_DOCUMENTS_PER_MODULE = {"pretraining": None, "fusion": 12, "held_out": 3}
"""Of one domain: documents that are scored side by side should not all tell of the same few modules."""
STANDARD_LIBRARY = "standard library"
ALL_LIBRARIES = (
    STANDARD_LIBRARY,
    "accelerate",
    "alembic",
    "celery",
    "datasets",
    "fastapi",
    "huggingface_hub",
    "hypothesis",
    "jinja2",
    "kombu",
    "mpmath",
    "mypy",
    "networkx",
    "numba",
    "numpy",
    "pandas",
    "pydantic",
    "redis",
    "sqlalchemy",
    "sympy",
)
_NOT_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "testing", "idlelib", "encodings"}
_MAX_MODULE_BYTES = 120_000
"""Longer modules are mostly tables and generated code."""


@functools.lru_cache(maxsize=3)
def documents(part: Part, libraries: tuple[str, ...] = ALL_LIBRARIES) -> list[Document]:
    """The documents of one part, in an order that does not change from run to run."""
    found: list[Document] = []
    for name, of_module in _modules(part, libraries):
        found += _thinned(name, of_module, limit=_DOCUMENTS_PER_MODULE[part])
    distinct = {document.text: document for document in found}
    return sorted(distinct.values(), key=lambda document: share_of(document.text))


@functools.lru_cache(maxsize=1)
def trained_on(libraries: tuple[str, ...]) -> frozenset[str]:
    """Every text that a model may have been trained on."""
    parts: tuple[Part, ...] = ("pretraining", "fusion")
    return frozenset(document.text for part in parts for document in documents(part, libraries))


def _modules(part: Part, libraries: tuple[str, ...]) -> Iterator[tuple[str, list[Document]]]:
    for library in libraries:
        is_standard = library == STANDARD_LIBRARY
        root = Path(sysconfig.get_path("stdlib" if is_standard else "purelib"))
        root, prefix = (root, "") if is_standard else (root / library, f"{library}/")
        for path in sorted(root.rglob("*.py")):
            name = path.relative_to(root)
            if not _NOT_LIBRARY.isdisjoint(name.parts) or path.stat().st_size > _MAX_MODULE_BYTES:
                continue
            if _part_of(prefix + name.as_posix()) == part:
                yield prefix + name.as_posix(), list(module_documents(path))
        if is_standard:
            yield from _topics(part)


def _topics(part: Part) -> Iterator[tuple[str, list[Document]]]:
    for topic, text in sorted(topics.items()):
        if _part_of(topic) == part:
            yield topic, list(cut_text("prose", text))


def _thinned(name: str, found: list[Document], *, limit: int | None) -> list[Document]:
    """At most `limit` documents of each domain."""
    chosen: list[Document] = []
    for domain in ("code", "prose"):
        members = [document for document in found if document.domain == domain]
        chosen += sorted(members, key=lambda document: share_of(name + document.text))[:limit]
    return chosen


def _part_of(name: str) -> Part:
    share = share_of(name)
    if share < _HELD_OUT_SHARE:
        return "held_out"
    return "fusion" if share < _HELD_OUT_SHARE + _FUSION_SHARE else "pretraining"
