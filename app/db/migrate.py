"""Bringing a database to the tables of this release: `python -m app.db.migrate`."""

import functools
import sys
import time
from pathlib import Path
from random import SystemRandom
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from app.db.row_security import build_wall
from app.db.session import create_engine, schema_transaction
from app.db.worker_role import grant_worker
from app.settings import load_settings
from fusion.errors import FusionError, InfrastructureError, UserError

# Beside the package, in a checkout as in an installation. Imported by name, any folder called so would do.
_MIGRATIONS = Path(__file__).parents[2] / "migrations"
_POSTGRESQL_LOCK = 0x667573696F6E  # "fusion" in ASCII
_TRIES: Final = 30
_LOCK_SECONDS: Final = 3
_GAVE_WAY: Final = ("40P01", "55P03")
"""PostgreSQL's codes of a deadlock and of a lock that was not had in time."""


def upgrade(url: str, *, revision: str = "head", worker_role: str | None = None) -> None:
    """Bring a database up to `revision`. Safe when several processes start at once; a no-op when current.

    Args:
        worker_role: gets what workers need of the database (`app.db.worker_role`).

    Raises:
        InfrastructureError: the database does not answer.
        UserError: there is no such role.
    """
    engine = create_engine(url)
    try:
        require_answer(engine)
        upgrade_engine(engine, revision=revision, worker_role=worker_role)
    finally:
        engine.dispose()


def upgrade_engine(engine: Engine, *, revision: str = "head", worker_role: str | None = None) -> None:
    """`upgrade` for an engine that exists. The service may go on meanwhile.

    All migrations are one transaction. On PostgreSQL it needs tables that others write to, in an order that
    is not theirs; where they wait for each other it gives way and begins again.
    """
    for last in (number == _TRIES - 1 for number in range(_TRIES)):
        try:
            _upgrade_once(engine, revision, worker_role=worker_role)
        except OperationalError as error:
            if last or getattr(error.orig, "sqlstate", None) not in _GAVE_WAY:
                raise
            time.sleep(SystemRandom().uniform(0.2, 1.0))
        else:
            return


def _upgrade_once(engine: Engine, revision: str, *, worker_role: str | None) -> None:
    with schema_transaction(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRESQL_LOCK})
            # Whoever comes after a waiting ALTER TABLE waits with it.
            connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"))
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        build_wall(connection)
        if worker_role is not None and connection.dialect.name == "postgresql":
            grant_worker(connection, worker_role)


def downgrade_engine(engine: Engine, *, revision: str) -> None:
    """Take migrations back to `revision`; `base` drops every table."""
    with schema_transaction(engine) as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def is_current(engine: Engine) -> bool:
    """Whether the database is at the newest migration of this release."""
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_heads()
    return set(found) == _heads()


def require_answer(engine: Engine) -> None:
    """Connect once.

    Raises:
        InfrastructureError: the database does not answer.
    """
    try:
        engine.connect().close()
    except DBAPIError as error:
        address = engine.url.render_as_string(hide_password=True)
        # Drivers explain over several lines.
        reason = " ".join(str(error.orig).split())
        raise InfrastructureError(
            f"the database {address} does not answer: {reason}",
            code="database_unreachable",
            hint="FUSION_DATABASE_URL must name the database that the API uses",
        ) from error


@functools.cache
def _heads() -> frozenset[str]:
    return frozenset(ScriptDirectory.from_config(_config()).get_heads())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def main() -> int:
    """Migrate the database that the settings name; an expected failure is one line and an exit code."""
    try:
        settings = load_settings()
        url = make_url(settings.database_url)
        if url.get_backend_name() == "sqlite" and Path(url.database or "").parent == settings.data_dir:
            settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        upgrade(settings.database_url, worker_role=settings.worker_role)
    except FusionError as error:
        sys.stderr.write(f"error: {error.code}: {error.message} (hint: {error.hint})\n")
        return 2 if isinstance(error, UserError) else 1
    except OSError as error:
        sys.stderr.write(f"error: data_dir_unusable: {error} (hint: choose another FUSION_DATA_DIR)\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
