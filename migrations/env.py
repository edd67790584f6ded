"""How alembic reaches the database: through `app.db.migrate`, or from its own command line."""

from typing import Any

from alembic import context
from sqlalchemy import JSON, Connection

from app.db.base import Base, UtcTime
from app.db.models import Job  # noqa: F401  (any model: the package fills the metadata)
from app.db.session import create_engine, schema_transaction
from app.settings import Settings


def render_item(kind: str, item: Any, autogen: Any) -> str | bool:
    """A migration must not change when our types do, so it names SQLAlchemy's own."""
    if kind == "type" and isinstance(item, JSON):
        autogen.imports.add("from sqlalchemy.dialects import postgresql")
        return 'sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")'
    if kind == "type" and isinstance(item, UtcTime):
        return "sa.DateTime(timezone=True)"
    return False


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        render_item=render_item,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    engine = create_engine(Settings().database_url)
    with schema_transaction(engine) as connection:
        run(connection)
    engine.dispose()
