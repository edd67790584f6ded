"""Locks by name, held until the transaction ends. They need no row, and nothing of them outlives a crash.

On SQLite a transaction that writes is alone anyway.
"""

import hashlib

from sqlalchemy import func, select
from sqlalchemy.orm import Session


def try_lock(session: Session, *name: str) -> bool:
    """Take the lock unless another transaction has it."""
    if session.get_bind().dialect.name == "sqlite":
        return True
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(_number(name)))))


def wait_for_lock(session: Session, *name: str) -> None:
    """Take the lock once no other transaction has it."""
    if session.get_bind().dialect.name != "sqlite":
        session.execute(select(func.pg_advisory_xact_lock(_number(name))))


def _number(name: tuple[str, ...]) -> int:
    digest = hashlib.sha256("\x00".join(name).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
