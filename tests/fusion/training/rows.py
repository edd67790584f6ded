"""Random sparse target rows, and the dense computation they must equal."""

import torch
from torch import Tensor

from fusion.training.losses import NO_ID, RowTargets


def random_targets(
    num_rows: int, vocabulary: int, entries: int, *, dtype: torch.dtype = torch.float32
) -> RowTargets:
    """Rows with up to `entries` distinct ids; of many rows, row 0 has no entries and row 1 no label."""
    ids = torch.stack([torch.randperm(vocabulary)[:entries] for _ in range(num_rows)])
    ids[torch.arange(entries) >= torch.randint(1, entries + 1, (num_rows, 1))] = NO_ID
    labels = torch.randint(vocabulary, (num_rows,))
    if num_rows > 2:
        ids[0], labels[1] = NO_ID, NO_ID
    weights = torch.rand(num_rows, entries, dtype=dtype) * (ids != NO_ID)
    kept = 0.3 + 0.6 * torch.rand(num_rows, 1, dtype=dtype)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-9) * kept
    tails = torch.where((ids != NO_ID).any(-1), 1 - weights.sum(-1), 0.0)
    return RowTargets(label_ids_N=labels, entry_ids_NK=ids, entry_weights_NK=weights, tails_N=tails)


def dense_rows(targets: RowTargets, vocabulary: int) -> Tensor:
    """The entries as [N, V]."""
    dense = torch.zeros(len(targets.label_ids_N), vocabulary, dtype=targets.entry_weights_NK.dtype)
    return dense.scatter_add(1, targets.entry_ids_NK.clamp(min=0), targets.entry_weights_NK)


def dense_cross_entropy(logits: Tensor, targets: RowTargets, *, tail: str) -> Tensor:
    """Cross-entropy per row from the textbook definition, with everything dense."""
    probabilities = dense_rows(targets, logits.shape[1])
    logprobs = logits.log_softmax(-1)
    if tail == "renormalise":
        probabilities = probabilities / probabilities.sum(-1, keepdim=True).clamp(min=1e-12)
    loss = -(probabilities * logprobs).sum(-1)
    if tail == "bucket":
        outside = (logprobs.exp() * (probabilities == 0)).sum(-1)
        loss = loss - targets.tails_N * outside.log()
    return loss
