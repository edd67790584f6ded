"""Running one model over one shard of text.

Letters: `W` windows, `N` rows of the shard, `B` sequences of a batch, `T` positions, `R` rows of a chunk,
`K` kept entries, `M` tail samples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from fusion.errors import CapacityError
from fusion.exhaustion import is_out_of_memory
from fusion.extraction.batch_budget import TokenBudget
from fusion.extraction.kept_rows import KeptRows
from fusion.extraction.logit_rows import LogitRows
from fusion.extraction.rows import keep_rows
from fusion.extraction.shard_text import ShardText
from fusion.io.captures import Capture
from fusion.io.tensors import Array, smallest_id_dtype
from fusion.llms.device_memory import release_cached_memory

_MAX_PADDING = 0.05
"""Share of a batch's positions."""
_MIN_FILL = 0.125
"""Share of the token budget that a batch fills although it is padded more."""


@dataclass(kw_only=True, slots=True)
class PaddingCount:
    """Positions that were computed, and those of them that were padding."""

    num_positions: int = 0
    num_padding: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptureSettings:
    """What is kept. `num_valid_ids` excludes the rows that pad an output head; `seed` rules tail samples."""

    num_valid_ids: int
    top_k: int
    num_tail_samples: int
    seed: int


def capture_shard(
    text: ShardText,
    *,
    model: LogitRows,
    device: torch.device,
    settings: CaptureSettings,
    budget: TokenBudget,
    padding: PaddingCount,
    on_batch: Callable[[int, int], None],
) -> Capture:
    """The capture of one shard. Windows of like length share a batch; the longest come first.

    Args:
        on_batch: called with the numbers of windows and rows that a batch finished.

    Raises:
        CapacityError: one window alone exceeds the device's memory.
    """
    arrays = _empty_capture(text, settings=settings)
    pending = [int(window) for window in np.argsort(-text.lengths, kind="stable") if text.lengths[window]]
    while pending:
        batch = pending[: _num_sequences(text.lengths[pending], max_tokens=budget.max_tokens)]
        try:
            _capture_batch(batch, text=text, model=model, device=device, settings=settings, into=arrays)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            _back_off(budget, batch=batch, longest=int(text.lengths[batch[0]]), error=error)
            continue
        num_rows = int(text.lengths[batch].sum())
        num_positions = len(batch) * int(text.lengths[batch[0]])
        padding.num_positions += num_positions
        padding.num_padding += num_positions - num_rows
        pending = pending[len(batch) :]
        on_batch(len(batch), num_rows)
    return arrays


def _num_sequences(lengths: Array, *, max_tokens: int) -> int:
    """How many windows, the longest first, share a batch: within the budget, and with little padding."""
    longest = int(lengths[0])
    most = max(1, max_tokens // longest)
    num_positions = longest * np.arange(1, len(lengths[:most]) + 1)
    padding = 1.0 - np.cumsum(lengths[:most]) / num_positions
    is_good = (padding <= _MAX_PADDING) | (num_positions <= _MIN_FILL * max_tokens)
    return max(1, int(is_good.sum()))


def _back_off(budget: TokenBudget, *, batch: list[int], longest: int, error: BaseException) -> None:
    release_cached_memory()
    if len(batch) == 1:
        raise CapacityError(
            f"one window of {longest} tokens exceeds the device's memory",
            code="device_memory_exhausted",
            hint="lower corpus.max_tokens_per_window, or run this source on a larger device",
            pointer="/corpus/max_tokens_per_window",
        ) from error
    budget.max_tokens = min(budget.max_tokens, len(batch) * longest)
    budget.halve()


def _empty_capture(text: ShardText, *, settings: CaptureSettings) -> Capture:
    num_rows, id_dtype = text.num_rows, smallest_id_dtype(settings.num_valid_ids)
    num_kept = min(settings.top_k, settings.num_valid_ids)
    return Capture(
        window_starts=text.window_starts,
        ends=text.ends,
        next_ids=text.next_ids,
        next_logprobs=np.full(num_rows, np.nan, dtype=np.float32),
        top_ids=np.zeros((num_rows, num_kept), dtype=id_dtype),
        top_logprobs=np.full((num_rows, num_kept), np.nan, dtype=np.float16),
        tail_logprobs=np.full(num_rows, np.nan, dtype=np.float16),
        sample_ids=np.zeros((num_rows, settings.num_tail_samples), dtype=id_dtype),
    )


def _capture_batch(
    batch: list[int],
    *,
    text: ShardText,
    model: LogitRows,
    device: torch.device,
    settings: CaptureSettings,
    into: Capture,
) -> None:
    """One forward pass; the kept rows land at their place in `into`."""
    rows = np.concatenate([np.arange(*text.window_starts[[window, window + 1]]) for window in batch])
    lengths = text.lengths[batch]
    is_real = np.arange(lengths[0])[None, :] < lengths[:, None]
    # Padding repeats a token that the batch reads anyway, so it brings in no embedding of its own.
    input_ids = np.full(is_real.shape, text.input_ids[rows[0]], dtype=np.int64)
    input_ids[is_real] = text.input_ids[rows]
    next_ids = torch.from_numpy(text.next_ids[rows].astype(np.int64)).to(device)
    uniforms = torch.from_numpy(_uniforms(batch, text=text, settings=settings)).to(device)

    def keep(chunk: slice, logits_RV: torch.Tensor) -> None:
        kept = keep_rows(
            logits_RV[:, : settings.num_valid_ids],
            next_ids_R=next_ids[chunk],
            top_k=settings.top_k,
            uniforms_RM=uniforms[chunk],
        )
        _store(kept, rows=rows[chunk], into=into)

    model.visit(
        torch.from_numpy(input_ids).to(device), is_real_BT=torch.from_numpy(is_real).to(device), keep=keep
    )


def _uniforms(batch: list[int], *, text: ShardText, settings: CaptureSettings) -> Array:
    """float64 [rows, M]; a function of the seed and the window's text, wherever and with whom it is read."""
    draws = [
        np.random.default_rng([settings.seed, *text.digests[window]]).random(
            (int(text.lengths[window]), settings.num_tail_samples)
        )
        for window in batch
    ]
    return np.concatenate(draws)


def _store(kept: KeptRows, *, rows: Array, into: Capture) -> None:
    """Only what is kept leaves the device."""
    into.next_logprobs[rows] = kept.next_logprobs.cpu().numpy()
    into.top_ids[rows] = kept.top_ids.cpu().numpy()
    into.top_logprobs[rows] = kept.top_logprobs.half().cpu().numpy()
    into.tail_logprobs[rows] = kept.tail_logprobs.half().cpu().numpy()
    into.sample_ids[rows] = kept.sample_ids.cpu().numpy()
