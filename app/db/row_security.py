"""The second wall between projects: PostgreSQL itself shows a transaction the rows of its project only.

Every table of a tenant's has one policy. It asks two settings of the transaction, which end with it, so that
no pooled connection carries them on: `fusion.project`, set for whoever is bound to a project, and
`fusion.service`, set for the service itself. Where neither is set there are no rows. Superusers and roles
with BYPASSRLS are not held (`fusion doctor` says so); owners of the tables are, because it is forced.
"""

from typing import Any, Final

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session, SessionTransaction

from app.db.tenancy import project_of
from app.db.time_limits import time_limits_of

_POLICY: Final = "fusion_project"
# In a subquery they are read once, and not for every row.
_SEEN: Final = (
    "(SELECT current_setting('fusion.service', true)) = 'on'"
    " OR {column} = (SELECT current_setting('fusion.project', true))"
)
_UNWALLED: Final = text(
    "SELECT tables.relname, columns.attname FROM pg_class AS tables"
    " JOIN pg_attribute AS columns ON columns.attrelid = tables.oid"
    " WHERE tables.relkind = 'r' AND tables.relnamespace = current_schema()::regnamespace"
    " AND (columns.attname = 'project_id' OR (tables.relname = 'projects' AND columns.attname = 'id'))"
    " AND NOT columns.attisdropped AND NOT (tables.relrowsecurity AND tables.relforcerowsecurity)"
)
_AS_SERVICE: Final = text("SELECT set_config('fusion.service', 'on', true)")
_AS_PROJECT: Final = text("SELECT set_config('fusion.project', :project, true)")
_WITH_LIMITS: Final = text(
    "SELECT set_config('fusion.project', :project, true), set_config('fusion.service', :service, true),"
    " set_config('statement_timeout', :statement, true),"
    " set_config('idle_in_transaction_session_timeout', :idle, true)"
)


def tell_whose(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    """`after_begin`: tell PostgreSQL whose transaction this is, and how long it may take."""
    if connection.dialect.name != "postgresql" or transaction.nested:
        return
    project_id = project_of(session)
    limits = time_limits_of(session.get_bind())
    if limits is not None:
        told = {
            "project": project_id or "",
            "service": "off" if project_id else "on",
            "statement": f"{limits.statement_seconds * 1000:.0f}",
            "idle": f"{limits.idle_seconds * 1000:.0f}",
        }
        connection.execute(_WITH_LIMITS, told)
    elif project_id is not None:
        connection.execute(_AS_PROJECT, {"project": project_id})
    else:
        connection.execute(_AS_SERVICE)


def act_as_service(connection: Connection) -> None:
    """For a transaction without a session: a migration sees the rows of every project."""
    if connection.dialect.name == "postgresql":
        connection.execute(_AS_SERVICE)


def build_wall(connection: Connection) -> None:
    """Put every table of a tenant's behind the wall that is not yet, whichever migration made it."""
    if connection.dialect.name != "postgresql":
        return
    for table, column in unwalled(connection):
        connection.execute(text(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"))
        connection.execute(text(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY"))
        connection.execute(text(f"DROP POLICY IF EXISTS {_POLICY} ON {table}"))
        seen = _SEEN.format(column=column)
        connection.execute(text(f"CREATE POLICY {_POLICY} ON {table} USING ({seen}) WITH CHECK ({seen})"))


def unwalled(source: Connection | Session) -> list[tuple[str, str]]:
    """(table, column with the project) of every table that is not behind the wall."""
    found: Any = source.execute(_UNWALLED)
    return [(row.relname, row.attname) for row in found]


def is_bypassed(session: Session) -> bool:
    """Whether the role of this connection sees everything, wall or not."""
    role = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
    return bool(session.scalar(text(role)))
