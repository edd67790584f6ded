"""Lessons made by hand: random text and rows for a tiny target."""

from pathlib import Path

import numpy as np

from fusion.io.captures import shard_folder
from fusion.io.lessons import LESSONS_KIND, Lessons, write_lessons
from fusion.io.manifest import write_manifest

START, END = 1, 2


def make_lessons(
    lengths: list[int],
    *,
    vocabulary: int = 1500,
    entries: int = 4,
    spoken: float = 0.7,
    rival_nats: float = 1.0,
    seed: int = 0,
) -> Lessons:
    """Windows of the given numbers of tokens; a share `spoken` of the rows carries entries.

    The one speaker pays `rival_nats` for every token: far less than an untrained target.
    """
    rng = np.random.default_rng(seed)
    num_tokens = sum(lengths)
    token_ids = rng.integers(3, vocabulary, num_tokens).astype(np.int32)
    window_starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    token_ids[window_starts[:-1][np.array(lengths) > 0]] = START
    speaks = rng.random(num_tokens) < spoken
    counts = np.where(speaks, entries, 0)
    num_spoken = int(speaks.sum())
    ids = rng.permuted(np.tile(np.arange(3, 63), (num_spoken, 1)), axis=1)[:, :entries]
    weights = rng.dirichlet(np.ones(entries + 1), num_spoken).astype(np.float16)
    tails = np.zeros(num_tokens, np.float16)
    tails[speaks] = weights[:, -1]
    return Lessons(
        window_starts=window_starts,
        token_ids=token_ids,
        row_starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        entry_ids=ids.reshape(-1).astype(np.int32),
        entry_weights=weights[:, :-1].reshape(-1),
        tails=tails,
        speakers=np.where(speaks, 0, -1).astype(np.int8),
        rivals=np.zeros(num_tokens, np.int8),
        rival_nats=np.full(num_tokens, rival_nats, np.float16),
    )


def write_align_folder(folder: Path, shards: list[Lessons]) -> Path:
    """An output folder of `align` with these shards."""
    for number, lessons in enumerate(shards):
        write_lessons(shard_folder(folder, number), lessons, meta={})
    write_manifest(folder, kind=LESSONS_KIND, meta={})
    return folder
