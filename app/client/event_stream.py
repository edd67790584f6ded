"""Reads server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerEvent:
    """One event of a stream. `id` is the last number that the stream gave, not always one of its own."""

    type: str
    id: str | None
    data: dict[str, Any]


def read_events(lines: Iterable[str], *, last_id: str | None = None) -> Iterator[ServerEvent | None]:
    """Whole events as they come; None for a comment, which tells that the other side is alive.

    An event that was cut off is not one.
    """
    event_type, event_id, data = "message", last_id, list[str]()
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line.startswith(":"):
            yield None
        elif name == "event":
            event_type = value
        elif name == "id":
            event_id = value
        elif name == "data":
            data.append(value)
        elif line == "":
            if data:
                yield ServerEvent(type=event_type, id=event_id, data=json.loads("\n".join(data)))
            event_type, data = "message", []
