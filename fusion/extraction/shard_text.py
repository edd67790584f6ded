"""One shard of windows as a model reads it, laid flat.

Letters: `W` windows, `N` rows of the shard.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusion.io.captures import NO_TOKEN
from fusion.io.tensors import Array
from fusion.io.windows import Window
from fusion.llms.token_bytes import TextEncoder


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardText:
    """Rows of a shard; row i holds the token that is read and predicts the next one.

    window_starts: int64 [W + 1]; a lossy window has no rows.
    input_ids: int32 [N]; each window is its start token, then its text.
    next_ids: int32 [N]; `NO_TOKEN` at the end of a window that does not end its document.
    ends: uint32 [N]; bytes of the window consumed after the row's token.
    digests: sha256 of each window's text.
    """

    window_starts: Array
    input_ids: Array
    next_ids: Array
    ends: Array
    digests: tuple[bytes, ...]
    num_lossy_windows: int

    @property
    def num_rows(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> Array:
        """int64 [W]; rows of each window."""
        return np.diff(self.window_starts)


def encode_shard(windows: Sequence[Window], *, encoder: TextEncoder, start_id: int) -> ShardText:
    """Tokenise the windows of a shard."""
    no_end = NO_TOKEN if encoder.eos_id is None else encoder.eos_id
    inputs: list[Array] = []
    nexts: list[Array] = []
    ends: list[Array] = []
    starts = [0]
    num_lossy = 0
    for window in windows:
        encoded = encoder.encode(window.text)
        if not encoded.lossless:
            num_lossy += 1
            starts.append(starts[-1])
            continue
        last = no_end if window.ends_document else NO_TOKEN
        inputs.append(np.concatenate(([start_id], encoded.ids)))
        nexts.append(np.concatenate((encoded.ids, [last])))
        ends.append(np.concatenate(([0], encoded.ends)))
        starts.append(starts[-1] + len(encoded.ids) + 1)
    return ShardText(
        window_starts=np.array(starts, dtype=np.int64),
        input_ids=_join(inputs, dtype=np.int32),
        next_ids=_join(nexts, dtype=np.int32),
        ends=_join(ends, dtype=np.uint32),
        digests=tuple(hashlib.sha256(window.text.encode()).digest() for window in windows),
        num_lossy_windows=num_lossy,
    )


def _join(parts: list[Array], *, dtype: type[np.generic]) -> Array:
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(0, dtype=dtype)
