"""How many tokens one forward pass may read: chosen by what a small one takes of the memory.

Letters: `T` positions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

MAX_TOKENS = {"cpu": 4096, "cuda": 32768}
"""Beyond so many tokens in one forward pass the throughput no longer grows; docs/benchmarks.md."""
_MEMORY_SHARE = 0.7
"""Of the free memory: allocators round up and leave holes, attention takes scratch space."""
_MAX_PROBE_TOKENS = 256


@dataclass(kw_only=True, slots=True)
class TokenBudget:
    """Tokens of one forward pass, padding included. Halved when the device runs out of memory."""

    max_tokens: int
    num_halvings: int = 0

    def limit(self, max_tokens: int) -> None:
        self.max_tokens = max(1, min(self.max_tokens, max_tokens))

    def halve(self) -> None:
        self.max_tokens = max(1, self.max_tokens // 2)
        self.num_halvings += 1


class MemoryMeter(Protocol):
    """What `fusion.llms.device_memory.DeviceMemory` measures."""

    def free_bytes(self) -> int:
        """What may still be taken."""

    def peak_bytes(self, work: Callable[[], object]) -> int:
        """The most that `work` holds at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForwardCost:
    """Bytes that one sequence of T tokens takes: `per_token` T + `per_token_pair` T**2.

    The square is the attention of models that write out its weights; others have none.
    """

    per_token: float
    per_token_pair: float

    def per_token_at(self, num_tokens: int) -> float:
        """Bytes per token of a batch of sequences of so many tokens."""
        return self.per_token + self.per_token_pair * num_tokens


def probe_forward_cost(
    run_backbone: Callable[[torch.Tensor], object],
    *,
    meter: MemoryMeter,
    device: torch.device,
    token_id: int,
    longest: int,
) -> ForwardCost:
    """Run two short sequences, none beyond the `longest` that the model reads; both give one curve."""
    num_long = max(2, min(_MAX_PROBE_TOKENS, longest))
    num_short = num_long // 2

    def bytes_per_token(num_tokens: int) -> float:
        input_ids_1T = torch.full((1, num_tokens), token_id, device=device)
        return meter.peak_bytes(lambda: run_backbone(input_ids_1T)) / num_tokens

    short, long = bytes_per_token(num_short), bytes_per_token(num_long)
    per_token_pair = max(0.0, (long - short) / (num_long - num_short))
    return ForwardCost(per_token=max(1.0, long - per_token_pair * num_long), per_token_pair=per_token_pair)


def tokens_that_fit(cost: ForwardCost, *, longest: int, free_bytes: int, reserved_bytes: int) -> int:
    """Tokens of a batch of windows of `longest` tokens; at least one window, which may then not fit.

    Args:
        reserved_bytes: what is taken besides, whatever the batch: the logits of the chunks.
    """
    room = max(0.0, _MEMORY_SHARE * free_bytes - reserved_bytes)
    return max(longest, int(room / cost.per_token_at(longest)))
