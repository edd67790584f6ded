"""Each of the threads computes on one core, and everybody else as before."""

import gc
import threading
from collections.abc import Iterator

import pytest
import torch

from fusion.extraction.head_threads import HeadThreads


@pytest.fixture
def two_torch_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def torch_threads_within(threads: HeadThreads) -> dict[str, int]:
    """By thread, torch's number of threads after it has computed."""
    meeting = threading.Barrier(threads.num_threads)
    found: dict[str, int] = {}

    def work(_piece: int) -> None:
        meeting.wait(timeout=60)
        # Large enough that torch would divide it.
        torch.ones(1 << 20).add_(1.0)
        found[threading.current_thread().name] = torch.get_num_threads()

    threads.run(work, range(threads.num_threads))
    return found


@pytest.mark.usefixtures("two_torch_threads")
def test_every_thread_computes_alone() -> None:
    assert torch_threads_within(HeadThreads(3)) == {"head_0": 1, "head_1": 1, "head_2": 1}


@pytest.mark.usefixtures("two_torch_threads")
def test_whoever_computes_afterwards_has_as_many_threads_as_before() -> None:
    """A training that follows in the same process adds up in the same order."""
    seen: list[int] = []
    torch_threads_within(HeadThreads(3))

    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()

    assert [torch.get_num_threads(), *seen] == [2, 2]


def test_one_thread_is_the_calling_one() -> None:
    assert list(torch_threads_within(HeadThreads(1))) == [threading.current_thread().name]


def test_an_error_is_raised_where_the_work_was_asked_for() -> None:
    def work(piece: int) -> None:
        if piece == 2:
            raise MemoryError

    with pytest.raises(MemoryError):
        HeadThreads(2).run(work, range(4))


def test_the_threads_end_with_their_owner() -> None:
    threads = HeadThreads(2)
    torch_threads_within(threads)
    own = [thread for thread in threading.enumerate() if thread.name in ("head_0", "head_1")]

    del threads
    gc.collect()
    for thread in own:
        thread.join(timeout=60)

    assert own
    assert not any(thread.is_alive() for thread in own)
