"""The feed gives the batches of the schedule, bit for bit, and its thread ends with it."""

import threading
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from fusion.training import feed as feed_module
from fusion.training.batches import MicroBatch, Schedule, collate, split_step
from fusion.training.feed import Feed
from fusion.training.loader import LessonReader
from tests.fusion.training.lessons import make_lessons, write_align_folder

CPU = torch.device("cpu")
MAX_TOKENS = 24
SCHEDULE = Schedule(num_sequences=7, sequences_per_step=3, num_epochs=2, max_steps=None, seed=1)


class CountingReader(LessonReader):
    """Remembers what was read, and by which thread; fails at a given sequence."""

    def __init__(self, folder, *, broken: int | None = None) -> None:
        super().__init__(folder)
        self.broken = broken
        self.seen: list[int] = []
        self.threads: set[str] = set()

    def read(self, number: int):
        self.seen.append(number)
        self.threads.add(threading.current_thread().name)
        if number == self.broken:
            raise OSError("the disk is gone")
        return super().read(number)


@pytest.fixture
def reader(tmp_path) -> CountingReader:
    return CountingReader(write_align_folder(tmp_path / "align", [make_lessons([12, 7, 9, 12, 5, 12, 6])]))


def make_feed(reader: LessonReader, *, rank: int = 0, num_ranks: int = 1, device=CPU) -> Feed:
    return Feed(reader, SCHEDULE, rank=rank, num_ranks=num_ranks, device=device)


def expected(reader: LessonReader, step: int, max_tokens: int, *, rank=0, num_ranks=1) -> list[MicroBatch]:
    numbers = SCHEDULE.sequences_of(step)
    lengths = reader.num_tokens_of[numbers]
    split = split_step(numbers, lengths, rank=rank, num_ranks=num_ranks, max_tokens=max_tokens)
    return [collate([LessonReader.read(reader, int(number)) for number in part]) for part in split]


def tensors(batch: MicroBatch) -> list[Tensor]:
    of_targets = [getattr(batch.targets, field.name) for field in fields(batch.targets)]
    return [batch.input_ids_BT, batch.rows_N, batch.rivals_N, batch.rival_nats_N, *of_targets]


def same(found: list[MicroBatch], wanted: list[MicroBatch]) -> bool:
    pairs = zip(found, wanted, strict=True)
    return all(
        torch.equal(one, other)
        for batch, like in pairs
        for one, other in zip(tensors(batch), tensors(like), strict=True)
    )


@pytest.mark.parametrize(("rank", "num_ranks"), [(0, 1), (1, 2), (3, 4)])
def test_gives_the_batches_of_every_step(reader, rank, num_ranks):
    with make_feed(reader, rank=rank, num_ranks=num_ranks) as feed:
        for step in range(SCHEDULE.num_steps):
            found = list(feed.micro_batches(step, max_tokens=MAX_TOKENS))
            assert same(found, expected(reader, step, MAX_TOKENS, rank=rank, num_ranks=num_ranks))


def test_every_sequence_is_read_once_and_by_the_thread(reader):
    with make_feed(reader) as feed:
        for step in range(SCHEDULE.num_steps):
            list(feed.micro_batches(step, max_tokens=MAX_TOKENS))

    assert sorted(reader.seen) == sorted(list(range(7)) * 2)
    assert reader.threads == {"feed_0"}
    assert feed.wait_seconds > 0


def test_smaller_batches_after_a_step_that_did_not_fit(reader):
    with make_feed(reader) as feed:
        list(feed.micro_batches(0, max_tokens=36))
        next(feed.micro_batches(1, max_tokens=36))
        found = list(feed.micro_batches(1, max_tokens=12))
        after = list(feed.micro_batches(2, max_tokens=12))

    assert same(found, expected(reader, 1, 12))
    assert same(after, expected(reader, 2, 12))


def test_a_step_that_failed_is_read_again(reader):
    with make_feed(reader) as feed:
        next(feed.micro_batches(1, max_tokens=MAX_TOKENS))

        assert same(list(feed.micro_batches(1, max_tokens=MAX_TOKENS)), expected(reader, 1, MAX_TOKENS))


def test_reads_no_further_ahead_than_said(reader, monkeypatch):
    monkeypatch.setattr(feed_module, "_MAX_BATCHES_AHEAD", 1)

    with make_feed(reader) as feed:
        next(feed.micro_batches(0, max_tokens=12))
    # The batch that was taken, and one ahead; sequences of 12 tokens come alone.
    assert len(reader.seen) <= 2


def test_an_error_of_reading_surfaces_where_the_batch_is_asked_for(tmp_path):
    folder = write_align_folder(tmp_path / "align", [make_lessons([12, 7, 9, 12, 5, 12, 6])])
    last = int(SCHEDULE.sequences_of(1)[0])
    reader = CountingReader(folder, broken=last)

    with make_feed(reader) as feed:
        list(feed.micro_batches(0, max_tokens=MAX_TOKENS))
        with pytest.raises(OSError, match="the disk is gone"):
            list(feed.micro_batches(1, max_tokens=MAX_TOKENS))


def test_the_thread_ends_when_training_is_interrupted(reader):
    before = threading.active_count()

    def train_until_interrupted() -> None:
        with make_feed(reader) as feed:
            next(feed.micro_batches(0, max_tokens=12))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_until_interrupted()

    assert threading.active_count() == before


# accelerate gives a single process the device "cuda", which torch.cuda.set_device refuses.
@pytest.mark.parametrize(("name", "chosen"), [("cuda", []), ("cuda:1", [1])])
def test_for_a_gpu_every_tensor_is_pinned_in_a_thread_of_that_gpu(reader, monkeypatch, name, chosen):
    pinned: list[Tensor] = []
    found: list[int] = []

    def pin(tensor: Tensor) -> Tensor:
        pinned.append(tensor)
        return tensor

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch._C, "_cuda_setDevice", found.append, raising=False)
    monkeypatch.setattr(MicroBatch, "to", lambda batch, device: batch)

    with make_feed(reader, device=torch.device(name)) as feed:
        batch = next(feed.micro_batches(0, max_tokens=12))

    assert found == chosen
    assert all(any(tensor is one for one in pinned) for tensor in tensors(batch))
