"""What of a log is stored and shown: lines, without secrets and without what was overwritten. Pure."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from app.db.json_values import storable

MAX_LINE_LETTERS: Final = 4000
HIDDEN: Final = "[secret]"
_SECRETS: Final = (
    # What a pattern's group holds stays, the rest of the match goes.
    re.compile(r"(://)[^/\s:@]+:[^/\s@]+(?=@)"),  # user and password of a URL
    re.compile(r"(?i)(bearer )[\w.~+/=-]{8,}"),
    re.compile(r"()\b(?:fus|hf|sk|ghp|gho|ghs|glpat|whsec)[_-][\w-]{16,}"),  # keys that say what they are
    re.compile(r"()\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    re.compile(r"([?&](?:X-Amz-(?:Signature|Credential|Security-Token)|sig|Signature)=)[^&\s\"']+"),
    re.compile(
        r"(?i)((?<![a-z])(?:api[_-]?key|secret|password|passwd|token|access[_-]?key)s?[\"']?\s*[=:]\s*[\"']?)"
        r"(?=[^\s\"',;]*[0-9A-Z])[^\s\"',;\[]{8,}"
    ),
)


class Level(StrEnum):
    """How much a line matters."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        return list(Level).index(self)


_LEVEL_OF_WORD: Final = {
    "debug": Level.DEBUG,
    "info": Level.INFO,
    "warn": Level.WARNING,
    "warning": Level.WARNING,
    "error": Level.ERROR,
    "critical": Level.ERROR,
    "fatal": Level.ERROR,
}
_LEVEL_WORD: Final = re.compile(r"\b(DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL|FATAL)\b")
_EXCEPTION: Final = re.compile(r"Traceback \(most recent call last\)|[\w.]+(?:Error|Exception)\b")
_WARNING: Final = re.compile(r"\w+Warning: ")
_LOOKED_AT: Final = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    level: Level
    text: str


def clean(data: bytes) -> str:
    """Bytes of a log as they are stored: readable lines of bounded length, each whole, no secrets."""
    text: str = storable(data.decode(errors="replace"))
    # A progress bar writes over its line again and again: what counts is what stood there last.
    lines = [line.rstrip("\r").rpartition("\r")[2][:MAX_LINE_LETTERS] for line in text.split("\n")]
    return scrub("\n".join(lines))


def scrub(text: str) -> str:
    """The text without what looks like a secret. The one function that whatever a stage says goes through."""
    for pattern in _SECRETS:
        text = pattern.sub(rf"\g<1>{HIDDEN}", text)
    return text


def lines_of(text: str) -> Iterator[Line]:
    """Lines with their levels; what is indented, as in a traceback, belongs to the line before."""
    level = Level.INFO
    for line in text.removesuffix("\n").split("\n"):
        if line[:1] not in (" ", "\t", ""):
            level = _level_of(line)
        yield Line(level=level, text=line)


def _level_of(line: str) -> Level:
    if line.startswith("{"):
        return _level_of_json(line)
    if found := _LEVEL_WORD.search(line[:_LOOKED_AT]):
        return _LEVEL_OF_WORD[found[1].lower()]
    if _EXCEPTION.match(line):
        return Level.ERROR
    return Level.WARNING if _WARNING.search(line[:_LOOKED_AT]) else Level.INFO


def _level_of_json(line: str) -> Level:
    try:
        found = json.loads(line)
    except ValueError:
        return Level.INFO
    word = found.get("level", "info") if isinstance(found, dict) else "info"
    return _LEVEL_OF_WORD.get(str(word).lower(), Level.INFO)
