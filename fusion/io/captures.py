"""Captures on disk: the stored next-token distributions of one model on one shard of text.

Letters: `W` windows, `N` rows of the shard, `K` kept entries, `M` tail samples. A window of n tokens has n
rows, one per token the model read: first the model's start token (BOS, or EOS where a tokenizer has no BOS;
it consumes no bytes), then the tokens of the text. Row i is the prediction of token i+1. The last row of a
window that ends its document predicts EOS; that of another window predicts nothing known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusion.io.atomic import atomic_folder
from fusion.io.manifest import read_manifest, write_manifest
from fusion.io.tensors import Array, read_arrays, write_arrays

CAPTURE_KIND = "capture"
NO_TOKEN = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Capture:
    """One model's rows on one shard, in fp16 log-probabilities normalised over the tokenizer's valid ids.

    window_starts: int64 [W + 1]; rows of window w are `window_starts[w]:window_starts[w + 1]`. A window whose
        text the tokenizer does not reproduce (lossy) has no rows.
    ends: uint32 [N]; bytes of the window's text consumed after the row's token; 0 at the start token.
    next_ids: int32 [N]; the token that follows, `NO_TOKEN` where none is known.
    next_logprobs: float32 [N]; its log-probability, NaN where there is none or the row is quarantined.
    top_ids: uint16 or uint32 [N, K]; ids of the K most likely tokens, most likely first.
    top_logprobs: float16 [N, K]; NaN throughout where the row was not finite (quarantined).
    tail_logprobs: float16 [N]; log of the mass outside the top K; -inf where there is none.
    sample_ids: same type as top_ids [N, M]; draws from the tail, each standing for tail / M.
    """

    window_starts: Array
    ends: Array
    next_ids: Array
    next_logprobs: Array
    top_ids: Array
    top_logprobs: Array
    tail_logprobs: Array
    sample_ids: Array

    @property
    def num_windows(self) -> int:
        return len(self.window_starts) - 1

    @property
    def num_rows(self) -> int:
        return len(self.ends)

    def rows_of(self, window: int) -> slice:
        """Rows of one window; empty when it was lossy for this tokenizer."""
        return slice(int(self.window_starts[window]), int(self.window_starts[window + 1]))

    @property
    def quarantined(self) -> Array:
        """bool [N]; rows whose logits were not finite."""
        return np.asarray(np.isnan(self.top_logprobs[:, 0]))


def window_of(capture: Capture, window: int) -> Capture:
    """One window of a capture, as a capture of its own that shares the memory."""
    rows = capture.rows_of(window)
    arrays = {name: getattr(capture, name)[rows] for name in Capture.__slots__ if name != "window_starts"}
    return Capture(window_starts=np.array([0, rows.stop - rows.start], dtype=np.int64), **arrays)


def join_captures(captures: Sequence[Capture]) -> Capture:
    """At least one capture of the same model and kind, one behind the other."""
    lengths = np.concatenate([np.diff(capture.window_starts) for capture in captures])
    arrays = {
        name: np.concatenate([getattr(capture, name) for capture in captures])
        for name in Capture.__slots__
        if name != "window_starts"
    }
    return Capture(window_starts=np.concatenate(([0], np.cumsum(lengths))), **arrays)


def shard_folder(root: Path, shard: int) -> Path:
    """Folder of shard number `shard` in the output of `extract` or `align`."""
    return root / f"shard-{shard:05d}"


def write_capture(folder: Path, capture: Capture, *, meta: dict[str, object]) -> None:
    """Write one shard's capture as a complete folder."""
    with atomic_folder(folder) as partial:
        write_arrays(
            partial / "capture.safetensors", {name: getattr(capture, name) for name in Capture.__slots__}
        )
        write_manifest(partial, kind=CAPTURE_KIND, meta=meta)


def read_capture(folder: Path) -> Capture:
    """Read a complete shard.

    Raises:
        InfrastructureError: the folder is unfinished or damaged.
    """
    read_manifest(folder, kind=CAPTURE_KIND)
    return Capture(**read_arrays(folder / "capture.safetensors"))
