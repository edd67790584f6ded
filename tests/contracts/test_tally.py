"""The hammer's arithmetic: it sees a failure where there is one."""

import base64
import json
from pathlib import Path
from typing import Any

from tests.contracts.tally import Tally


def test_failures_leaks_and_errors_are_seen(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        scenario("GET /a", 500, {"detail": "Traceback (most recent call last)"}, failed="not_a_server_error"),
        scenario("GET /a", 200, {}, failed=None),
    )

    assert (found.num_requests, found.num_server_errors) == (2, 1)
    assert [(one.check, one.operation, one.status) for one in found.failures] == [
        ("not_a_server_error", "GET /a", 500)
    ]
    assert len(found.leaks) == 1
    assert found.checked["GET /a", "not_a_server_error"] == 2


def test_only_what_no_schema_can_say_is_a_refusal_beyond_it(tmp_path: Path) -> None:
    check = "positive_data_acceptance"
    bodies: list[dict[str, Any]] = [
        {"code": "part_not_found", "errors": []},
        {"code": "spec_invalid", "errors": [{"code": "value_error"}]},
        {"code": "spec_invalid", "errors": [{"code": "value_error"}, {"code": "string_type"}]},
        {"code": "invalid_request", "errors": []},
    ]
    found = read(tmp_path, *(scenario("POST /a", 422, body, failed=check) for body in bodies))

    assert [one.is_semantic_refusal for one in found.findings] == [True, True, False, False]


def read(folder: Path, *events: dict[str, Any]) -> Tally:
    path = folder / "events.ndjson"
    path.write_text("".join(f"{json.dumps(event)}\n" for event in events))
    tally = Tally()
    tally.read(path)
    return tally


def scenario(label: str, status: int, body: dict[str, Any], *, failed: str | None) -> dict[str, Any]:
    """An event as schemathesis 4.32 writes it."""
    content = {"$base64": base64.b64encode(json.dumps(body).encode()).decode()}
    check: dict[str, Any] = {
        "name": failed or "not_a_server_error",
        "status": "failure" if failed else "success",
    }
    if failed:
        check["failure_info"] = {"failure": {"message": "no"}}
    interaction = {
        "request": {"method": "GET", "uri": "http://x/a", "headers": {}, "body": None},
        "response": {"status_code": status, "content": content},
    }
    recorder = {
        "label": label,
        "cases": {"c": {"value": {"method": "GET", "path": "/a"}}},
        "checks": {"c": [check]},
        "interactions": {"c": interaction},
    }
    return {"ScenarioFinished": {"recorder": recorder}}
