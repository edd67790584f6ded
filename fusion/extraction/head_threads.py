"""Threads that share the work behind the backbone: each runs torch on one core, on rows of its own.

The output head and what is kept of its logits then need no meeting of threads per product, and a row is
reduced on the core that computed it, while it lies in that core's caches.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch


class HeadThreads:
    """As many threads as torch uses for one operation; with one, the calling thread does the work."""

    def __init__(self, num_threads: int) -> None:
        self.num_threads = num_threads
        self._pool = _start_pool(num_threads) if num_threads > 1 else None

    def run(self, work: Callable[[int], None], pieces: Sequence[int]) -> None:
        """Do every piece, at most `num_threads` at a time; what a piece raises is raised here."""
        if self._pool is None:
            for piece in pieces:
                work(piece)
            return
        for _ in self._pool.map(work, pieces):
            pass


def _start_pool(num_threads: int) -> ThreadPoolExecutor:
    """Start all threads at once; the calling thread, and threads to come, keep their number of threads."""
    before = torch.get_num_threads()
    started = Barrier(num_threads + 1)

    def settle() -> None:
        # The first time a thread asks, it takes over the process's number, whatever was set before.
        torch.get_num_threads()
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="head", initializer=settle)
    for _ in range(num_threads):
        pool.submit(_nothing)
    started.wait()
    # Each of them also set what threads to come start with.
    torch.set_num_threads(before)
    return pool


def _nothing() -> None:
    """A piece that only makes a thread start."""
