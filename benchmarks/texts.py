"""Real text that every Python installation carries: the modules of the standard library.

A module belongs to one part as a whole, so the corpus is text that no tokenizer was trained on.
"""

import hashlib
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

Part = Literal["tokenizers", "corpus"]

_CORPUS_SHARE = 0.1
_NOT_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idlelib", "encodings", "pydoc_data"}


def modules(part: Part, *, max_characters: int) -> list[str]:
    """Sources of the first modules of one part, until `max_characters` are reached."""
    chosen: list[str] = []
    num_characters = 0
    for name, text in _library():
        if num_characters >= max_characters:
            break
        if _part_of(name) == part:
            chosen.append(text)
            num_characters += len(text)
    return chosen


def documents(count: int, *, max_characters: int) -> list[str]:
    """`count` documents of the corpus part, their lengths spread evenly up to `max_characters`."""
    lengths = [max_characters * (number + 1) // count for number in range(count)]
    text = "".join(modules("corpus", max_characters=sum(lengths)))
    if len(text) < sum(lengths):
        raise ValueError(f"{sum(lengths)} characters were asked for, the library's share has {len(text)}")
    ends = [sum(lengths[: number + 1]) for number in range(count)]
    return [text[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def write_corpus(path: Path, *, num_documents: int, max_characters: int) -> Path:
    """The documents as JSONL; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = documents(num_documents, max_characters=max_characters)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in lines), encoding="utf-8")
    return path


def _library() -> Iterator[tuple[str, str]]:
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        if not _NOT_LIBRARY.isdisjoint(name.parts):
            continue
        try:
            yield name.as_posix(), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a few library files are in other encodings on purpose


def _part_of(name: str) -> Part:
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
    return "corpus" if share < _CORPUS_SHARE else "tokenizers"
