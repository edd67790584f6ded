"""Inserts that may meet a row that is already there."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.db.base import Base


def insert_if_absent(session: Session, table: type[Base], values: Mapping[str, Any]) -> bool:
    """Insert a row unless its primary key exists; False when it did.

    On PostgreSQL it waits for a transaction that is inserting the same key, so the answer is final.
    """
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    keys = list(table.__mapper__.primary_key)
    statement = insert(table).values(dict(values)).on_conflict_do_nothing(index_elements=keys)
    return session.execute(statement.returning(*keys)).first() is not None
