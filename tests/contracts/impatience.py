"""Loaded by schemathesis: what would be waited for is not. Nobody runs the jobs, so no stream of theirs ends.

A value that the schema allows becomes another one that it allows; what it forbids stays as it was made.
"""

import re
from typing import Any

import schemathesis

_TRUE = {"true", "1", "on", "t", "yes", "y"}
_IN_SCHEMA = re.compile(r"60(\.0+)?|[1-5]?\d(\.\d+)?")
"""Seconds from 0 to 60."""


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    path, query = case.operation.path, dict(case.query or {})
    if path.endswith("/events/stream") and str(_last(query.get("follow", True))).lower() in _TRUE:
        query["follow"] = "false"
    if path == "/v1/jobs/{job_id}" and _IN_SCHEMA.fullmatch(str(_last(query.get("wait")))):
        query["wait"] = "0"
    if query:
        case.query = query


def _last(value: Any) -> Any:
    """The one of several that counts."""
    return value[-1] if isinstance(value, list) and value else value
