"""Many objects are asked for side by side, and not for ever."""

import threading
from dataclasses import dataclass, field

import pytest

from app.storage.asking import StoreSlow, sizes_of
from app.storage.object_storage import ObjectStorage

SIDE_BY_SIDE = 4
WAIT_SECONDS = 30.0


@dataclass
class Crowd(ObjectStorage):
    """Answers only when several ask at once."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(SIDE_BY_SIDE))

    def size(self, key: str) -> int | None:
        self.barrier.wait(timeout=WAIT_SECONDS)
        return None if key == "absent" else len(key)


@dataclass
class Hanging(ObjectStorage):
    answer: threading.Event = field(default_factory=threading.Event)

    def size(self, key: str) -> int | None:
        self.answer.wait(timeout=WAIT_SECONDS)
        return len(key)


def test_answers_come_in_the_order_of_the_questions() -> None:
    found = sizes_of(Crowd(), ["a", "bbb", "absent", "cc"], within_seconds=WAIT_SECONDS)

    assert found == [1, 3, None, 2]


def test_nobody_waits_for_a_store_that_hangs() -> None:
    store = Hanging()

    with pytest.raises(StoreSlow, match=r"3 objects within 0\.1 s"):
        sizes_of(store, ["a", "b", "c"], within_seconds=0.1)

    store.answer.set()


def test_no_question_needs_no_answer() -> None:
    assert sizes_of(Hanging(), [], within_seconds=0.0) == []
