"""How commands show what the service answered: exactly as it was sent, or in words."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from app.cli.output import print_json, print_line, print_table


class Answer(Protocol):
    """What the client makes of JSON."""

    def to_json(self) -> dict[str, Any]: ...


AnswerT = TypeVar("AnswerT", bound=Answer)


def print_answer(answer: Answer, words: str, *, as_json: bool) -> None:
    """One thing, or a line about it."""
    if as_json:
        print_json(answer.to_json())
    else:
        print_line(words)


def print_answers(
    answers: Sequence[AnswerT],
    columns: Sequence[str],
    cells_of: Callable[[AnswerT], Sequence[object]],
    *,
    as_json: bool,
) -> None:
    """A list of things, or a table with a row for each."""
    if as_json:
        print_json([answer.to_json() for answer in answers])
    else:
        print_table(columns, [cells_of(answer) for answer in answers])


def print_ended(thing_id: str, *, how: str = "deleted", as_json: bool) -> None:
    """Something is no more, and the service had nothing further to say."""
    if as_json:
        print_json({"id": thing_id, how: True})
    else:
        print_line(f"{thing_id} is {how}")
