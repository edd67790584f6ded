"""`fusion audit`."""

from collections.abc import Callable

from tests.app.cli.conftest import Ran, Service

EVENT = {
    "id": "audit-1",
    "object": "audit_event",
    "created_at": 1_700_000_000,
    "key_id": "key-1",
    "address": "10.0.0.7",
    "action": "cancel_job",
    "object_id": "job-1",
    "outcome": "refused",
    "status": 403,
    "code": "scope_missing",
}


def test_audit_events_are_listed(talking: Callable[..., Ran], service: Service) -> None:
    service.gives_list("GET /v1/audit_events", EVENT)

    ran = talking("audit", "--action", "cancel_job", "--limit", "5")

    line = "2023-11-14 22:13:20\tkey-1\t10.0.0.7\tcancel_job\tjob-1\trefused: scope_missing"
    assert line in ran.out.splitlines()
    assert talking("audit", "--json").json == [EVENT]
