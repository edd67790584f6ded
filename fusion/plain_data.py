"""JSON and YAML of strangers as plain data: within limits, and without what could mean two things.

No YAML alias: a few of them make gigabytes out of a line. No key twice in a mapping. No nesting that a reader
would stumble over, and nothing that JSON and the database cannot hold.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

MAX_DEPTH: Final = 32
MAX_NODES: Final = 50_000
MAX_INTEGER: Final = 2**63 - 1
_NUM_PROBLEMS_TOLD: Final = 20
# In C where there is one: a megabyte of YAML takes the other one half a minute.
_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unreadable(ValueError):
    """The text is no plain data at all; the message says where it stops being that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataProblem:
    """A value that cannot be kept: its JSON pointer (RFC 6901), a code for programs, what is wrong."""

    pointer: str
    code: str
    message: str


def read_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        Unreadable: no JSON, nested too deeply, or a key twice in an object.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise Unreadable(_too_deep()) from error
    except ValueError as error:
        raise Unreadable(str(error)) from error


def read_yaml(text: str) -> Any:
    """Parse one YAML document, by the safe schema.

    Raises:
        Unreadable: no YAML, an alias, nested too deeply, or a key twice in a mapping.
    """
    try:
        _look_through(text)
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise Unreadable(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise Unreadable(str(error) or _too_deep()) from error


def data_problems(data: Any) -> list[DataProblem]:
    """What of parsed data cannot be kept, the first of it."""
    found = []
    for problem in _problems(data):
        found.append(problem)
        if len(found) == _NUM_PROBLEMS_TOLD:
            break
    return found


def json_pointer(location: Sequence[int | str]) -> str:
    """RFC 6901 pointer of a path of keys and indices; the empty path is the whole document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Unreadable(f"the key {twice[:80]!r} is there twice in one object")
    return data


class _Loader(_BaseLoader):  # type: ignore[misc]
    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """As the safe loader does, if every key is there once."""
        names = [key.value for key, _ in node.value if isinstance(key.value, str)]
        if len(set(names)) < len(names):
            seen: set[str] = set()
            twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise Unreadable(f"line {node.start_mark.line + 1}: the key {twice[:80]!r} is there twice")
        return super().construct_mapping(node, deep=deep)


def _look_through(text: str) -> None:
    """Refuse what must not be composed, by the events alone."""
    depth = 0
    for event in yaml.parse(text, Loader=_BaseLoader):
        if isinstance(event, yaml.AliasEvent):
            raise Unreadable(
                f"line {_line(event)}: aliases (*{event.anchor}) are not accepted; write the value out"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > 2 * MAX_DEPTH:
                raise Unreadable(f"line {_line(event)}: {_too_deep()}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _line(event: yaml.Event) -> int:
    return 0 if event.start_mark is None else event.start_mark.line + 1


def _problems(data: Any) -> Iterator[DataProblem]:
    """Depth first, with a stack of its own: the data may be deeper than Python recurses."""
    waiting: list[tuple[tuple[int | str, ...], Any]] = [((), data)]
    num_nodes = 0
    while waiting:
        location, value = waiting.pop()
        num_nodes += 1
        if num_nodes > MAX_NODES:
            yield _problem((), "data_too_large", f"more than {MAX_NODES} values")
            return
        if isinstance(value, dict | list):
            if len(location) >= MAX_DEPTH:
                yield _problem(location, "nested_too_deeply", _too_deep())
                continue
            yield from _key_problems(location, value)
            items = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [
                ((*location, key if isinstance(key, int) else str(key)), item) for key, item in items
            ][::-1]
        else:
            yield from _scalar_problems(location, value)


def _key_problems(
    location: tuple[int | str, ...], value: dict[Any, Any] | list[Any]
) -> Iterator[DataProblem]:
    for key in value if isinstance(value, dict) else ():
        if not isinstance(key, str):
            yield _problem((*location, str(key)), "key_not_text", f"a key is text, got {type(key).__name__}")
        elif _is_unstorable(key):
            yield _problem((*location, key), "text_not_allowed", _UNSTORABLE)


def _scalar_problems(location: tuple[int | str, ...], value: Any) -> Iterator[DataProblem]:
    if isinstance(value, str):
        if _is_unstorable(value):
            yield _problem(location, "text_not_allowed", _UNSTORABLE)
    elif isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            yield _problem(location, "number_too_large", f"an integer beyond {MAX_INTEGER}")
    elif value is not None and not isinstance(value, float):
        message = f"{type(value).__name__} is no JSON type; put quotes around it"
        yield _problem(location, "type_not_allowed", message)


_UNSTORABLE: Final = "the text holds a NUL or half of a surrogate pair"


def _is_unstorable(text: str) -> bool:
    """Whether a database refuses it."""
    return "\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text)


def _problem(location: tuple[int | str, ...], code: str, message: str) -> DataProblem:
    return DataProblem(pointer=json_pointer(location), code=code, message=message)


def _too_deep() -> str:
    return f"nested more than {MAX_DEPTH} deep"
