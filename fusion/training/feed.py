"""Micro-batches in the order of training, read and laid out ahead of it by a thread."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import torch

from fusion.io.tensors import Array
from fusion.training.batches import MicroBatch, Schedule, collate, split_step
from fusion.training.loader import LessonReader

_MAX_BATCHES_AHEAD = 4


class Feed:
    """Reads the next micro-batches, also of the steps to come, while the current one is computed.

    What it gives is a function of schedule, step and `max_tokens` alone; the thread only saves time. Errors
    of reading surface where the batch is asked for. Leaving the context stops the thread.
    """

    def __init__(
        self, reader: LessonReader, schedule: Schedule, *, rank: int, num_ranks: int, device: torch.device
    ) -> None:
        self.wait_seconds = 0.0
        """Time the caller has waited for batches so far."""
        self._reader = reader
        self._schedule = schedule
        self._rank = rank
        self._num_ranks = num_ranks
        self._device = device
        # One thread: it alone reads, so the order is kept and open files need no lock.
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="feed", initializer=_choose_device, initargs=(device,)
        )
        self._ahead: deque[Future[MicroBatch]] = deque()
        self._plan: Iterator[Array] = iter(())
        self._next: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def micro_batches(self, step: int, *, max_tokens: int) -> Iterator[MicroBatch]:
        """This rank's micro-batches of a step, on the device.

        In steady state the caller asks for step after step; any other step or size starts reading anew.

        Args:
            max_tokens: of one micro-batch, padding included.
        """
        if self._next != (step, max_tokens):
            self._start(step, max_tokens)
        self._next = None
        for _ in self._batches_of(step, max_tokens):
            self._read_ahead()
            yield self._take().to(self._device)
        self._next = (step + 1, max_tokens)

    def _start(self, step: int, max_tokens: int) -> None:
        for future in self._ahead:
            future.cancel()
        self._ahead.clear()
        self._plan = (
            numbers
            for later in range(step, self._schedule.num_steps)
            for numbers in self._batches_of(later, max_tokens)
        )

    def _batches_of(self, step: int, max_tokens: int) -> list[Array]:
        numbers = self._schedule.sequences_of(step)
        return split_step(
            numbers,
            self._reader.num_tokens_of[numbers],
            rank=self._rank,
            num_ranks=self._num_ranks,
            max_tokens=max_tokens,
        )

    def _read_ahead(self) -> None:
        while len(self._ahead) <= _MAX_BATCHES_AHEAD:
            numbers = next(self._plan, None)
            if numbers is None:
                return
            self._ahead.append(self._thread.submit(self._load, numbers))

    def _take(self) -> MicroBatch:
        began = time.perf_counter()
        batch = self._ahead.popleft().result()
        self.wait_seconds += time.perf_counter() - began
        return batch

    def _load(self, numbers: Array) -> MicroBatch:
        batch = collate([self._reader.read(int(number)) for number in numbers])
        return batch.pin_memory() if self._device.type == "cuda" else batch


def _choose_device(device: torch.device) -> None:
    """Without this the thread of every rank would open the first GPU to pin its memory.

    A GPU without a number, as a single process has it, is the first one.
    """
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
