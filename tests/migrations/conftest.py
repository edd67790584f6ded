"""A migrated database of either kind."""

from tests.app.conftest import database_url, engine

__all__ = ["database_url", "engine"]
