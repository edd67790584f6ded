"""Lessons as sequences: an index over all shards, and slices of their arrays.

The arrays stay in their safetensors files and are read through the operating system's page cache, one slice
at a time. So a corpus larger than memory works, and the shuffle can be over all sequences, not within shards.

Letters: `T` tokens of a sequence, `E` kept entries of its rows.
"""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from fusion.errors import CorpusInvalid
from fusion.io.lessons import LESSONS_KIND
from fusion.io.manifest import read_manifest
from fusion.io.tensors import Array

_MAX_OPEN_SHARDS = 64
MIN_TOKENS = 2
"""Shorter sequences have no next token to predict."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sequence:
    """One window as the target reads it.

    token_ids_T: int32 [T]. entry_counts_T: int64 [T]; entries of each row. entry_ids_E: int32 [E].
    entry_weights_E: float32 [E]. tails_T: float32 [T]. rivals_T: int64 [T]. rival_nats_T: float32 [T].
    """

    token_ids_T: Array
    entry_counts_T: Array
    entry_ids_E: Array
    entry_weights_E: Array
    tails_T: Array
    rivals_T: Array
    rival_nats_T: Array


class LessonReader:
    """All sequences of an align folder, by number."""

    def __init__(self, folder: Path, *, with_entries: bool = True) -> None:
        """Index the windows of every shard; those without a token to predict are left out.

        Args:
            with_entries: false for the control, which learns from the tokens alone.

        Raises:
            CorpusInvalid: no sequence is left.
            InfrastructureError: a shard is unfinished or damaged.
        """
        self._paths = [
            shard / "lessons.safetensors" for shard in sorted(folder.glob("shard-*")) if shard.is_dir()
        ]
        self._with_entries = with_entries
        self._open: OrderedDict[int, Any] = OrderedDict()
        places, lengths = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.int64)]
        for shard, path in enumerate(self._paths):
            read_manifest(path.parent, kind=LESSONS_KIND)
            tokens_W = np.diff(self._shard(shard).get_tensor("window_starts"))
            windows = np.flatnonzero(tokens_W >= MIN_TOKENS)
            places.append(np.stack([np.full_like(windows, shard), windows], axis=1))
            lengths.append(tokens_W[windows])
        self._places = np.concatenate(places)
        self.num_tokens_of = np.concatenate(lengths)
        """int64 [sequences]; tokens of each sequence."""
        if not len(self):
            raise CorpusInvalid(
                f"{folder.name} holds no sequence of {MIN_TOKENS} tokens or more: nothing to train on",
                code="no_training_sequences",
                hint="give more text, or check that the target's tokenizer reproduces it",
                pointer="/corpus",
            )

    def __len__(self) -> int:
        return len(self._places)

    def read(self, number: int) -> Sequence:
        """The sequence `number`, counted over all shards in order."""
        shard, window = (int(value) for value in self._places[number])
        arrays = self._shard(shard)
        first, last = (int(value) for value in arrays.get_slice("window_starts")[window : window + 2])
        row_starts = arrays.get_slice("row_starts")[first : last + 1]
        if not self._with_entries:
            row_starts = np.full_like(row_starts, row_starts[0])
        entries = int(row_starts[0]), int(row_starts[-1])
        return Sequence(
            token_ids_T=_values(arrays, "token_ids", first, last, dtype=np.int32),
            entry_counts_T=np.diff(row_starts),
            entry_ids_E=_values(arrays, "entry_ids", *entries, dtype=np.int32),
            entry_weights_E=_values(arrays, "entry_weights", *entries, dtype=np.float32),
            tails_T=_values(arrays, "tails", first, last, dtype=np.float32),
            rivals_T=_values(arrays, "rivals", first, last, dtype=np.int64),
            rival_nats_T=_values(arrays, "rival_nats", first, last, dtype=np.float32),
        )

    def _shard(self, shard: int) -> Any:
        """The opened file of a shard; the least recently used one is closed when too many are open."""
        if shard not in self._open:
            if len(self._open) == _MAX_OPEN_SHARDS:
                self._open.popitem(last=False)
            self._open[shard] = safe_open(self._paths[shard], framework="numpy")
        self._open.move_to_end(shard)
        return self._open[shard]


def _values(arrays: Any, name: str, start: int, stop: int, *, dtype: type[np.generic]) -> Array:
    """`start:stop` of a stored array. safetensors refuses an empty slice at the end of an array."""
    if start == stop:
        return np.zeros(0, dtype)
    return np.asarray(arrays.get_slice(name)[start:stop], dtype)
