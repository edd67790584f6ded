"""Order, split and layout of sequences."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusion.training.batches import Schedule, collate, split_step
from fusion.training.loader import LessonReader
from fusion.training.losses import NO_ID
from tests.fusion.training.lessons import make_lessons, write_align_folder


def schedule(**changes) -> Schedule:
    settings = {"num_sequences": 10, "sequences_per_step": 4, "num_epochs": 2, "max_steps": None, "seed": 3}
    return Schedule(**{**settings, **changes})


def test_every_epoch_sees_every_sequence_once():
    plan = schedule()

    first, second = (
        np.concatenate([plan.sequences_of(s) for s in steps]) for steps in (range(3), range(3, 6))
    )

    assert plan.num_steps == 6
    assert sorted(first) == sorted(second) == list(range(10))
    assert first.tolist() != second.tolist()


def test_order_depends_on_the_seed_only():
    assert schedule().sequences_of(1).tolist() == schedule(num_epochs=5).sequences_of(1).tolist()
    assert schedule().sequences_of(1).tolist() != schedule(seed=4).sequences_of(1).tolist()


def test_max_steps_ends_early():
    assert schedule(max_steps=4).num_steps == 4


@given(
    lengths=st.lists(st.integers(2, 40), min_size=1, max_size=30),
    num_ranks=st.integers(1, 3),
    max_tokens=st.integers(1, 120),
)
def test_ranks_share_a_step_within_the_token_budget(lengths, num_ranks, max_tokens):
    num_tokens = np.array(lengths)
    numbers = np.arange(100, 100 + len(lengths))

    batches = [
        batch
        for rank in range(num_ranks)
        for batch in split_step(numbers, num_tokens, rank=rank, num_ranks=num_ranks, max_tokens=max_tokens)
    ]

    assert sorted(np.concatenate(batches)) == numbers.tolist()
    for batch in batches:
        assert len(batch) == 1 or len(batch) * num_tokens[batch - 100].max() <= max_tokens


@pytest.fixture
def sequences(tmp_path):
    reader = LessonReader(write_align_folder(tmp_path / "align", [make_lessons([6, 3], entries=3)]))
    return [reader.read(0), reader.read(1)]


def test_batch_keeps_rows_that_teach_something(sequences):
    batch = collate(sequences)

    places = [(0, position) for position in range(6)] + [(1, position) for position in range(3)]
    counts = np.concatenate([sequence.entry_counts_T for sequence in sequences])
    last = {(0, 5), (1, 2)}
    taught = [place for place, count in zip(places, counts, strict=True) if place not in last or count]
    assert batch.rows_N.tolist() == [row * 6 + position for row, position in taught]
    assert batch.targets.is_taught.sum() == (counts > 0).sum()


def test_labels_are_the_next_tokens(sequences):
    batch = collate(sequences)

    flat = batch.input_ids_BT.flatten()
    labelled = batch.targets.label_ids_N != NO_ID
    assert labelled.sum() == 5 + 2
    assert torch.equal(batch.targets.label_ids_N[labelled], flat[batch.rows_N[labelled] + 1])


def test_entries_keep_their_rows(sequences):
    batch = collate(sequences)

    used = batch.targets.entry_ids_NK != NO_ID
    flat_ids = np.concatenate([sequence.entry_ids_E for sequence in sequences])
    assert batch.targets.entry_ids_NK[used].tolist() == flat_ids.tolist()
    assert batch.targets.entry_weights_NK[~used].abs().sum() == 0
    spoken = used.any(-1)
    mass = batch.targets.entry_weights_NK.sum(-1) + batch.targets.tails_N
    torch.testing.assert_close(mass[spoken], torch.ones(int(spoken.sum())), atol=3e-3, rtol=0)
