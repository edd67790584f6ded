"""Taking times so that a busy machine spoils them as little as possible."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """Repetitions of one piece of work, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def noise_margin(self) -> float:
        return relative_spread(self.seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two pieces of work timed in turns: each round gives one ratio, so slow minutes hit both alike."""

    first: Timed
    second: Timed

    @property
    def ratios(self) -> list[float]:
        """first / second of every round."""
        return [mine / theirs for mine, theirs in zip(self.first.seconds, self.second.seconds, strict=True)]

    @property
    def ratio(self) -> float:
        """Median over the rounds of first / second."""
        return statistics.median(self.ratios)

    @property
    def noise_margin(self) -> float:
        return relative_spread(self.ratios)


def relative_spread(values: Sequence[float]) -> float:
    """Half the distance between the quartiles, relative to the median."""
    if len(values) < 2:
        return 0.0
    lower, middle, upper = statistics.quantiles(values, n=4, method="inclusive")
    return (upper - lower) / 2.0 / middle


def interleaved(first: Work, second: Work, *, repetitions: int) -> Pair:
    """Wall time of two pieces of work, in turns and in alternating order, after one warm-up of each."""
    gc.collect()
    first_seconds, second_seconds = [], []
    _wall(first)
    _wall(second)
    for number in range(repetitions):
        if number % 2 == 0:
            first_seconds.append(_wall(first))
            second_seconds.append(_wall(second))
        else:
            second_seconds.append(_wall(second))
            first_seconds.append(_wall(first))
    return Pair(first=Timed(seconds=tuple(first_seconds)), second=Timed(seconds=tuple(second_seconds)))


def core_seconds(work: Work, *, repetitions: int, warm_up: bool = True) -> Timed:
    """CPU time of all threads of this process: seconds of one core, whatever else the machine does."""
    gc.collect()
    if warm_up:
        work()
    return Timed(seconds=tuple(_cpu(work) for _ in range(repetitions)))


def _wall(work: Work) -> float:
    _wait_for_device()
    began = time.perf_counter()
    work()
    _wait_for_device()
    return time.perf_counter() - began


def _cpu(work: Work) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
