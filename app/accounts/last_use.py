"""Noting that an API key was used: after the answer, and by one request at a time."""

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.accounts import repository
from app.db.session import in_transaction
from app.logs import get_logger

log = get_logger(__name__)


class LastUses:
    """One per API process. Of many requests that find a key's last use old, the first one notes the new one:
    the others would wait for the row that it has locked, each with a connection in hand."""

    def __init__(self) -> None:
        self._being_noted: set[str] = set()

    def note(self, engine: Engine, key_id: str) -> None:
        """Note it, unless another request is doing so. Where the database does not take the note, a later
        request tries again."""
        if key_id in self._being_noted:
            return
        self._being_noted.add(key_id)
        try:
            in_transaction(engine, repository.touch_key, key_id)
        except SQLAlchemyError as error:
            log.warning("key_use_not_noted", key_id=key_id, error=str(error))
        finally:
            self._being_noted.discard(key_id)
