"""What the database role of workers may do: run steps, and nothing else. On PostgreSQL.

A worker loads models of strangers. Whoever breaks out of one should not find the keys of the service in the
database, nor a way to make some: with a role of its own (`FUSION_WORKER_ROLE`) a worker reads and writes what
a step needs, and neither API keys nor the audit log nor webhooks' secrets.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, text

from fusion.errors import UserError

_READ: Final = "SELECT"
_ADD: Final = "SELECT, INSERT"
_CHANGE: Final = "SELECT, INSERT, UPDATE"
_KEEP: Final = "SELECT, INSERT, UPDATE, DELETE"

WORKER_RIGHTS: Final[Mapping[str, str]] = {
    "alembic_version": _READ,
    # Its project's row is locked while bytes are recorded, for which PostgreSQL wants a column to change.
    "projects": f"{_READ}, UPDATE (created_at)",
    "workers": _KEEP,
    "jobs": f"{_READ}, UPDATE",
    "steps": f"{_READ}, UPDATE",
    "step_needs": _READ,
    "attempts": _CHANGE,
    "job_estimates": _CHANGE,
    "artifacts": _KEEP,
    "artifact_files": _KEEP,
    "models": _ADD,
    "files": _READ,
    "upload_parts": _READ,
    "secrets": _READ,
    "events": _ADD,
    "metric_points": _KEEP,
    "log_chunks": _KEEP,
    "outbox_messages": _ADD,
    "promotions": _READ,
    "publications": _READ,
    # Whom to tell of an event, and not how to sign.
    "webhook_endpoints": "SELECT (id, project_id, event_types, enabled, deleted_at)",
    "webhook_deliveries": _ADD,
}
"""By table."""


def grant_worker(connection: Connection, role: str) -> None:
    """Give a role what workers need of the tables that there are, and take everything else from it.

    Raises:
        UserError: the server has no such role.
    """
    found = connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role})
    if found is None:
        raise UserError(
            f"FUSION_WORKER_ROLE names {role!r}, and the server has no such role",
            code="worker_role_missing",
            hint="make it (CREATE ROLE ... LOGIN PASSWORD ...), or leave the variable out",
        )
    preparer = connection.dialect.identifier_preparer
    grantee, schema = preparer.quote(role), preparer.quote(connection.scalar(text("SELECT current_schema()")))
    connection.execute(text(f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {grantee}"))
    connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO {grantee}"))
    for table, rights in WORKER_RIGHTS.items():
        connection.execute(text(f"GRANT {rights} ON {table} TO {grantee}"))
