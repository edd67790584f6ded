"""Bringing a database to the tables of this release: `python -m app.db.migrate`."""

import functools
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from app.db.session import create_engine, schema_transaction
from app.settings import Settings

# Beside the package, in a checkout as in an installation. Imported by name, any folder called so would do.
_MIGRATIONS = Path(__file__).parents[2] / "migrations"
_POSTGRESQL_LOCK = 0x667573696F6E  # "fusion" in ASCII


def upgrade(url: str, *, revision: str = "head") -> None:
    """Bring a database up to `revision`. Safe when several processes start at once; a no-op when current."""
    engine = create_engine(url)
    try:
        upgrade_engine(engine, revision=revision)
    finally:
        engine.dispose()


def upgrade_engine(engine: Engine, *, revision: str = "head") -> None:
    """`upgrade` for an engine that exists."""
    with schema_transaction(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRESQL_LOCK})
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


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


@functools.cache
def _heads() -> frozenset[str]:
    return frozenset(ScriptDirectory.from_config(_config()).get_heads())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


if __name__ == "__main__":
    upgrade(Settings().database_url)
