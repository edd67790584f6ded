"""Foreign values in JSON columns."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from app.db.json_values import storable
from app.db.session import in_transaction
from app.jobs import service
from tests.app.jobs import builders as given


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\x00b", "a\ufffdb"),
        ("\ud800", "?"),
        (float("nan"), None),
        (1.5, 1.5),
        (True, True),
        (None, None),
        ({"a": [float("inf"), (1, 2)]}, {"a": [None, [1, 2]]}),
        ({1: "x\x00"}, {"1": "x\ufffd"}),
        (Path("/a"), "/a"),
    ],
)
def test_values_are_made_fit(value: object, expected: object) -> None:
    assert storable(value) == expected


def test_both_databases_take_what_comes_out(engine: Engine) -> None:
    job = given.submit_in_new_project(engine)
    step = given.claim(engine)
    details = {"text": "\x00\ud800", "number": float("-inf"), "path": Path("/a")}

    in_transaction(
        engine, service.record_note, step_id=step.step_id, attempt=1, message="a\x00b", details=details
    )

    note = given.events(engine, job.id)[-1]
    assert (note.message, note.details) == ("a\ufffdb", {"text": "\ufffd?", "number": None, "path": "/a"})
