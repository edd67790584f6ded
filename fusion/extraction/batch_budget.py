"""How many tokens one forward pass may read: a fixed number, lowered where a probe says it would not fit.

The number decides which windows share a batch, and that the last bits of what is captured. So it depends on
the machine as little as can be: `MAX_TOKENS` wherever the memory allows it, else the next lower power of two
that fits. Two runs differ only where one of them had less free memory than the usual number needs.

Letters: `T` positions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

MAX_TOKENS = {"cpu": 4096, "cuda": 32768}
"""Two windows of 2,048 tokens on a CPU, sixteen on a GPU, which needs many to hide the launching of kernels.
Chosen by reason, not by a sweep: more could be faster, but would not fit everywhere."""
_MEMORY_SHARE = 0.7
"""Of the free memory. A margin, not a measurement: allocators round up and leave holes, attention takes
scratch space, and other programs go on allocating. What it does not cover, halving does."""
_MAX_PROBE_TOKENS = 256
"""Enough for the square to show beside what every pass takes, few enough to fit nearly always."""


@dataclass(kw_only=True, slots=True)
class TokenBudget:
    """Tokens of one forward pass, padding included. Halved when the device runs out of memory."""

    max_tokens: int
    num_halvings: int = 0

    def limit(self, max_tokens: int) -> None:
        self.max_tokens = max(1, min(self.max_tokens, max_tokens))

    def limit_to_one_window(self) -> None:
        """The least there is: what does not fit then, no batch makes fit."""
        self.max_tokens = 1

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
    """Tokens of a batch of windows of `longest` tokens, a power of two: free memory differs by the minute.

    At least one window, which may then not fit.

    Args:
        reserved_bytes: what is taken besides, whatever the batch: the logits of the chunks.
    """
    room = max(0.0, _MEMORY_SHARE * free_bytes - reserved_bytes)
    num_tokens = int(room / cost.per_token_at(longest))
    return max(longest, 1 << num_tokens.bit_length() >> 1)
