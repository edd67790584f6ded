"""Databases for the tests that need no process of their own."""

from tests.app.conftest import database_url, engine

__all__ = ["database_url", "engine"]
