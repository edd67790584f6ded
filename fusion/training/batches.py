"""Which sequences an optimiser step sees, how they are split, and what a micro-batch looks like.

Letters: `B` sequences of a micro-batch, `T` its longest sequence, `N` rows that are taught, `K` entries kept.
"""

import functools
import math
from collections.abc import Callable
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fusion.io.tensors import Array
from fusion.training.following import rows_followed
from fusion.training.loader import Sequence
from fusion.training.losses import NO_ID, RowTargets


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The sequences of every optimiser step: a pure function of seed and step."""

    num_sequences: int
    sequences_per_step: int
    num_epochs: int
    max_steps: int | None
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.num_sequences / self.sequences_per_step)

    @property
    def num_steps(self) -> int:
        steps = self.steps_per_epoch * self.num_epochs
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def sequences_of(self, step: int) -> Array:
        """Numbers of the sequences behind step `step` (from 0); the last step of an epoch may have fewer."""
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        order = _order_of_epoch(self.num_sequences, self.seed, epoch)
        first = step_of_epoch * self.sequences_per_step
        return np.asarray(order[first : first + self.sequences_per_step])


# Reading ahead looks at the next epoch before this one is over.
@functools.lru_cache(maxsize=2)
def _order_of_epoch(num_sequences: int, seed: int, epoch: int) -> Array:
    return np.random.default_rng([seed, epoch]).permutation(num_sequences)


def split_step(
    numbers: Array, num_tokens: Array, *, rank: int, num_ranks: int, max_tokens: int
) -> list[Array]:
    """Split one step's sequences into this rank's micro-batches, longest first.

    Sorting by length keeps padding small and meets the largest batch first. A micro-batch holds at most
    `max_tokens` tokens, padding included, but at least one sequence.

    Args:
        numbers: [sequences]; numbers of the step's sequences.
        num_tokens: [sequences]; their lengths.
    """
    by_length = np.argsort(-num_tokens, kind="stable")[rank::num_ranks]
    batches: list[Array] = []
    start = 0
    while start < len(by_length):
        size = max(1, max_tokens // int(num_tokens[by_length[start]]))
        batches.append(numbers[by_length[start : start + size]])
        start += size
    return batches


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """Sequences of one forward and backward pass.

    input_ids_BT: int64, padded on the right: a causal model's real positions never see the padding.
    rows_N: int64; positions in the flattened [B * T] that have a label or a target row.
    targets: what these rows are taught.
    rivals_N: int64; whom the row is measured against, by index, `NOBODY` or `SEVERAL`.
    rival_nats_N: float32; what that speaker pays for the row's label.
    """

    input_ids_BT: Tensor
    rows_N: Tensor
    targets: RowTargets
    rivals_N: Tensor
    rival_nats_N: Tensor

    def following(self, followed_S: list[bool]) -> "MicroBatch":
        """The batch without what speakers say who are not followed."""
        return replace(self, targets=self.targets.only(rows_followed(self.rivals_N, followed_S)))

    def to(self, device: torch.device) -> "MicroBatch":
        """The same batch on `device`; from pinned memory the copies wait for nobody."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "MicroBatch":
        """The same batch in memory that a GPU can read on its own."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> "MicroBatch":
        return MicroBatch(
            input_ids_BT=change(self.input_ids_BT),
            rows_N=change(self.rows_N),
            targets=self.targets.map(change),
            rivals_N=change(self.rivals_N),
            rival_nats_N=change(self.rival_nats_N),
        )


def collate(sequences: Ordered[Sequence]) -> MicroBatch:
    """Pad the tokens and lay the target rows out as [N, K]; rows that teach nothing are dropped.

    A window's last row has no label, but is kept where a source speaks for it.
    """
    lengths = np.array([len(sequence.token_ids_T) for sequence in sequences])
    used_BT = np.arange(lengths.max()) < lengths[:, None]
    # Padding repeats a token of the batch: it brings in no embedding of its own, which might not be finite.
    input_ids_BT = np.full(used_BT.shape, sequences[0].token_ids_T[0], np.int64)
    input_ids_BT[used_BT] = np.concatenate([sequence.token_ids_T for sequence in sequences])
    labels_BT = np.full(used_BT.shape, NO_ID, np.int64)
    labels_BT[:, :-1] = np.where(used_BT[:, 1:], input_ids_BT[:, 1:], NO_ID)

    counts_M = np.concatenate([sequence.entry_counts_T for sequence in sequences])
    labels_M = labels_BT[used_BT]
    taught_M = (labels_M != NO_ID) | (counts_M > 0)
    # Rows without entries hold none, so dropping them leaves the flat entries in place.
    counts_N = counts_M[taught_M]
    kept_NK = np.arange(max(1, counts_N.max(initial=0))) < counts_N[:, None]
    return MicroBatch(
        input_ids_BT=torch.from_numpy(input_ids_BT),
        rows_N=torch.from_numpy(np.flatnonzero(used_BT)[taught_M]),
        rivals_N=torch.from_numpy(np.concatenate([s.rivals_T for s in sequences])[taught_M]),
        rival_nats_N=torch.from_numpy(np.concatenate([s.rival_nats_T for s in sequences])[taught_M]),
        targets=RowTargets(
            label_ids_N=torch.from_numpy(labels_M[taught_M]),
            entry_ids_NK=_laid_out(
                kept_NK, [sequence.entry_ids_E for sequence in sequences], np.int64, NO_ID
            ),
            entry_weights_NK=_laid_out(
                kept_NK, [sequence.entry_weights_E for sequence in sequences], np.float32, 0
            ),
            tails_N=torch.from_numpy(np.concatenate([sequence.tails_T for sequence in sequences])[taught_M]),
        ),
    )


def _laid_out(kept_NK: Array, flat: list[Array], dtype: type[np.generic], unused: int) -> Tensor:
    rows = np.full(kept_NK.shape, unused, dtype)
    rows[kept_NK] = np.concatenate(flat)
    return torch.from_numpy(rows)
