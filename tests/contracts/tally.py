"""What schemathesis found, read from its events."""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BY_SCHEMA = frozenset({"invalid_request", "spec_invalid", "bad_request", "json_invalid"})
"""Codes of refusals of what a schema forbids. The others are about what no schema can say, such as an id that
names nothing, or a file of a kind that its bytes are not."""
IN_WORDS = frozenset({"value_error", "text_not_allowed", "int_type", "number_too_large"})
"""Codes of fields that break a rule between several fields, or one about halves of surrogate pairs; an
integer written as `1.0`, which is one in JSON Schema and none in a spec; and numbers too large to store."""
REFUSALS = (400, 409, 412, 413, 416, 422)
LEAKS = re.compile(
    r"Traceback|sqlalchemy|site-packages|psycopg|sqlite3|\.py\b|SELECT |INSERT ", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A check that failed."""

    check: str
    operation: str
    message: str
    request: str
    status: int | None
    code: str | None
    field_codes: frozenset[str]

    @property
    def is_semantic_refusal(self) -> bool:
        """Whether a request that fits the schema was refused for a reason beyond the schema."""
        is_refused = self.check == "positive_data_acceptance" and self.status in REFUSALS
        is_beyond = (
            self.code not in BY_SCHEMA
            or (self.field_codes and self.field_codes <= IN_WORDS)
            # What a clone changes is checked together with the spec that it changes.
            or self.operation.endswith("/clone")
        )
        return is_refused and self.code is not None and bool(is_beyond)


@dataclass(kw_only=True)
class Tally:
    """Sums over one or several runs."""

    num_requests: int = 0
    num_server_errors: int = 0
    checked: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often a check was made, by (operation, check)."""
    requests: Counter[str] = field(default_factory=Counter)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[Finding]:
        return [one for one in self.findings if not one.is_semantic_refusal]

    @property
    def is_clean(self) -> bool:
        return not (self.failures or self.leaks or self.errors or self.num_server_errors)

    def read(self, events: Path) -> None:
        """Add what a report of events (NDJSON) holds."""
        with events.open(encoding="utf-8") as lines:
            for line in lines:
                name, event = next(iter(json.loads(line).items()))
                if name == "ScenarioFinished":
                    self._add(event["recorder"])
                elif name in ("NonFatalError", "FatalError", "InternalError"):
                    self.errors.append(json.dumps(event)[:2000])

    def _add(self, recorder: dict[str, Any]) -> None:
        label = recorder["label"]
        for case_id, interaction in recorder.get("interactions", {}).items():
            operation = label if " " in label and label != "Stateful tests" else _operation(recorder, case_id)
            self.num_requests += 1
            self.requests[operation] += 1
            response = interaction.get("response")
            if response is None:
                self.errors.append(f"{operation}: no answer")
                continue
            status = response["status_code"]
            self.statuses[operation, status] += 1
            self.num_server_errors += status >= 500
            text = _content(response).decode(errors="replace")
            if status >= 400 and LEAKS.search(text):
                self.leaks.append(f"{operation} {status}: {text[:500]}")
            code, field_codes = _codes(text)
            for check, message in _checks(recorder, case_id):
                self.checked[operation, check] += 1
                if message is not None:
                    self.findings.append(
                        Finding(
                            check=check,
                            operation=operation,
                            message=message,
                            request=_told(interaction["request"]),
                            status=status,
                            code=code,
                            field_codes=field_codes,
                        )
                    )


def _operation(recorder: dict[str, Any], case_id: str) -> str:
    value = recorder["cases"][case_id]["value"]
    return f"{value['method'].upper()} {value['path']}"


def _checks(recorder: dict[str, Any], case_id: str) -> Iterator[tuple[str, str | None]]:
    for check in recorder.get("checks", {}).get(case_id, ()):
        failed = check["status"] != "success"
        yield check["name"], check["failure_info"]["failure"]["message"] if failed else None


def _content(response: dict[str, Any]) -> bytes:
    content = response.get("content")
    return base64.b64decode(content["$base64"]) if isinstance(content, dict) else b""


def _codes(text: str) -> tuple[str | None, frozenset[str]]:
    """Code of a problem, and those of its fields."""
    try:
        found = json.loads(text)
    except ValueError:
        return None, frozenset()
    if not isinstance(found, dict):
        return None, frozenset()
    return found.get("code"), frozenset(one["code"] for one in found.get("errors") or ())


def _told(request: dict[str, Any]) -> str:
    body = request.get("body")
    shown = base64.b64decode(body["$base64"])[:600].decode(errors="replace") if isinstance(body, dict) else ""
    headers = {key: value for key, value in request["headers"].items() if key.lower() != "authorization"}
    return f"{request['method']} {request['uri']} {headers} {shown}"
