"""Notes: what a request leaves in the first transaction that changes something."""

from typing import Final, Protocol

from sqlalchemy import Engine
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction

_NOTE_OPTION: Final = "fusion_note"
_CHANGES: Final = "fusion_changes_something"


class Note(Protocol):
    """Something to write down once, in the same transaction as the change that it is about."""

    def made(self, row: object) -> None:
        """A new row is being stored."""

    def write(self, session: Session) -> None:
        """The transaction, which changes something, is about to be committed."""

    def written(self) -> None:
        """It was."""


def noted(engine: Engine, note: Note) -> Engine:
    """The same database; its transactions take the note along."""
    return engine.execution_options(**{_NOTE_OPTION: note})


def note_of(session: Session) -> Note | None:
    """The note that the session takes along."""
    note: Note | None = session.get_bind().get_execution_options().get(_NOTE_OPTION)
    return note


def changes_something(session: Session) -> bool:
    """Whether anything was sent to the database but queries and locks."""
    session.flush()
    return _CHANGES in session.info


def notice_statement(state: ORMExecuteState) -> None:
    """`do_orm_execute`: see changes that are statements."""
    if state.is_insert or state.is_update or state.is_delete:
        state.session.info[_CHANGES] = True


def notice_flush(session: Session, _context: UOWTransaction) -> None:
    """`after_flush`: see changes of rows, and tell the note what was made."""
    session.info[_CHANGES] = True
    note = note_of(session)
    if note is not None:
        for row in session.new:
            note.made(row)
