"""The windows as the target reads them: the rows of the lessons.

Letters: `W` windows, `T` tokens of all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusion.io.captures import Capture
from fusion.io.tensors import Array
from fusion.io.windows import Window
from fusion.llms.token_bytes import TextEncoder


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetText:
    """Start token, text, and EOS where the document ends, window after window.

    window_starts: int64 [W + 1]; a window that is lossy for the target has no tokens.
    token_ids: int32 [T].
    ends: int64 [T]; bytes of the window consumed after each token.
    is_start, is_end: bool [T]; the start tokens, and the EOS that closes a document.
    is_spaced: bool [T]; the start tokens of windows whose text begins with a space.
    """

    window_starts: Array
    token_ids: Array
    ends: Array
    is_start: Array
    is_end: Array
    is_spaced: Array

    @property
    def num_windows(self) -> int:
        return len(self.window_starts) - 1

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def next_ids(self) -> Array:
        """int32 [T]; the token that follows in the window, -1 after its last."""
        shifted = np.append(self.token_ids[1:], np.int32(-1))
        shifted[self.window_starts[1:][np.diff(self.window_starts) > 0] - 1] = -1
        return shifted

    def part(self, first: int, stop: int) -> "TargetText":
        """Windows `first:stop`."""
        start, end = int(self.window_starts[first]), int(self.window_starts[stop])
        return TargetText(
            window_starts=self.window_starts[first : stop + 1] - start,
            token_ids=self.token_ids[start:end],
            ends=self.ends[start:end],
            is_start=self.is_start[start:end],
            is_end=self.is_end[start:end],
            is_spaced=self.is_spaced[start:end],
        )


def read_target_text(
    windows: Sequence[Window], *, encoder: TextEncoder, start_id: int, capture: Capture | None
) -> TargetText:
    """Tokens of every window, taken from the target's own capture where there is one."""
    token_parts = [np.zeros(0, np.int32)]
    end_parts = [np.zeros(0, np.int64)]
    window_starts = [0]
    closings: list[int] = []
    for number, window in enumerate(windows):
        read = _read_window(number, window, encoder=encoder, capture=capture)
        num_tokens = 0
        if read is not None:
            ids, ends = read
            closed = window.ends_document and encoder.eos_id is not None
            closing = np.array([encoder.eos_id] if closed else [], dtype=np.int32)
            token_parts += [np.array([start_id], np.int32), ids, closing]
            end_parts += [np.zeros(1, np.int64), ends, np.full(len(closing), ends[-1] if len(ends) else 0)]
            num_tokens = 1 + len(ids) + len(closing)
            if closed:
                closings.append(window_starts[-1] + num_tokens - 1)
        window_starts.append(window_starts[-1] + num_tokens)
    token_ids = np.concatenate(token_parts)
    starts = np.array(window_starts, dtype=np.int64)
    spaced = np.array([window.text.startswith(" ") for window in windows], dtype=bool)
    return TargetText(
        window_starts=starts,
        token_ids=token_ids,
        ends=np.concatenate(end_parts),
        is_start=_flags(len(token_ids), starts[:-1][np.diff(starts) > 0]),
        is_end=_flags(len(token_ids), np.array(closings, dtype=np.int64)),
        is_spaced=_flags(len(token_ids), starts[:-1][spaced & (np.diff(starts) > 0)]),
    )


def text_ids(capture: Capture, window: int) -> Array:
    """int32; ids of a window's text as a captured model read it, without its start token."""
    return np.asarray(capture.next_ids[capture.rows_of(window)][:-1])


def _read_window(
    number: int, window: Window, *, encoder: TextEncoder, capture: Capture | None
) -> tuple[Array, Array] | None:
    """Ids and ends of the text of one window; None when it is lossy for the target."""
    if capture is not None:
        rows = capture.rows_of(number)
        if rows.start == rows.stop:
            return None
        return text_ids(capture, number), capture.ends[rows][1:].astype(np.int64)
    encoded = encoder.encode(window.text)
    return (encoded.ids, encoded.ends.astype(np.int64)) if encoded.lossless else None


def _flags(num_tokens: int, positions: Array) -> Array:
    flags = np.zeros(num_tokens, dtype=bool)
    flags[positions] = True
    return flags
