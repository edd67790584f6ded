"""One captured model over a run of windows: its rows as the target would have said them, and its score.

Letters: `T` rows of the lessons, `N` rows of the source, `K` entries of a source row.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from fusion.alignment.positions import PieceMatcher, align_by_ends, align_by_pieces
from fusion.alignment.row_transform import SILENCED, UNALIGNED, Context, transform_rows
from fusion.alignment.target_text import TargetText, text_ids
from fusion.alignment.vocabulary import VocabularyMap
from fusion.blending.scores import score_rows
from fusion.blending.sparse_rows import SparseRows, normalise
from fusion.io.captures import Capture
from fusion.io.tensors import Array
from fusion.spec import BlendingSpec, Strategy


class Silence(IntEnum):
    """Why a row says nothing; of several reasons the greatest is reported."""

    NONE = 0
    UNALIGNED = 1
    """No row of the source stands at this position."""
    UNMAPPED = 2
    """No entry of the row has a target token."""
    QUARANTINED = 3
    """The source's logits were not finite."""
    WHITESPACE = 4
    """Too much of the row is whitespace that would shrink."""
    NO_SOURCE = 5
    """No speaker read this window, or none has a share in it."""
    TARGET_BETTER = 6
    """The target scores better than every source."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """How one captured model is heard.

    matcher: only under `dtw`, and not for the target.
    is_target: its rows are the target's own, and need no alignment.
    """

    name: str
    vocabulary: VocabularyMap
    matcher: PieceMatcher | None
    is_target: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Speech:
    """What a model says about a run of windows.

    rows: each row and its tail add to 1; silent where `silence` is not `NONE`, but for stand-ins.
    silence: int8 [T]; a `Silence` per row.
    num_aligned_rows: rows with a source row at their position, good or bad.
    mass_seen, mass_kept: probability of the entries of the rows that were mapped, before and after.
    """

    rows: SparseRows
    silence: Array
    num_aligned_rows: int
    num_lossy_windows: int
    mass_seen: float
    mass_kept: float


def align_windows(
    listener: Listener, text: TargetText, capture: Capture, first: int, *, strict: bool
) -> Array:
    """Row of the capture, counted from the first row of window `first`, for every row of `text`.

    Returns:
        int64 [T]; `UNALIGNED` where none, at a closing EOS, and throughout a window the source cannot read.
    """
    positions = np.full(text.num_tokens, UNALIGNED, dtype=np.int64)
    offset = capture.rows_of(first).start
    for number in range(text.num_windows):
        start, stop = text.window_starts[number : number + 2].tolist()
        rows = capture.rows_of(first + number)
        if start == stop or rows.start == rows.stop:
            continue
        stop -= int(text.is_end[stop - 1])
        if listener.is_target:
            found = np.arange(stop - start)
        elif listener.matcher is not None:
            found = align_by_pieces(
                text.token_ids[start + 1 : stop], text_ids(capture, first + number), matcher=listener.matcher
            )
        else:
            found = align_by_ends(text.ends[start:stop], capture.ends[rows], strict=strict)
        positions[start:stop] = np.where(found == UNALIGNED, UNALIGNED, found + (rows.start - offset))
    return positions


def score_windows(text: TargetText, capture: Capture, first: int, *, blending: BlendingSpec) -> Array:
    """float32 [T]; the model's score at every row, inf throughout a window it cannot read."""
    scores = np.full(text.num_tokens, np.inf, dtype=np.float32)
    for number in range(text.num_windows):
        target_rows = slice(*text.window_starts[number : number + 2].tolist())
        rows = capture.rows_of(first + number)
        if target_rows.start < target_rows.stop and rows.start < rows.stop:
            scores[target_rows] = score_rows(
                text.ends[target_rows],
                capture.ends[rows],
                capture.next_logprobs[rows],
                spec=blending,
            )
    return scores


def listen(
    listener: Listener,
    text: TargetText,
    capture: Capture,
    first: int,
    *,
    strategy: Strategy,
    target_size: int,
) -> Speech:
    """Bring a model's rows over windows `first` onwards onto the rows of `text`."""
    positions = align_windows(listener, text, capture, first, strict=strategy.alignment.strict)
    aligned = positions != UNALIGNED
    span = slice(capture.rows_of(first).start, capture.rows_of(first + text.num_windows - 1).stop)
    ids_NK, weights_NK, totals_N = _entries(capture, span, sampled=strategy.objective.tail == "sampled")
    silence = np.where(aligned, Silence.NONE, Silence.UNALIGNED).astype(np.int8)
    silence[aligned] = _faults(
        listener, ids_NK, weights_NK, totals_N, max_collapsed=strategy.vocabulary.max_collapsed_whitespace
    )[positions[aligned]]
    positions[silence == Silence.QUARANTINED] = UNALIGNED
    positions[silence == Silence.WHITESPACE] = SILENCED
    heard = positions >= 0
    rows = transform_rows(
        positions,
        ids_NK=ids_NK,
        weights_NK=weights_NK,
        images_3V=listener.vocabulary.images_3V,
        contexts=_contexts(text),
        num_first=capture.top_ids.shape[1] if strategy.vocabulary.duplicates == "first" else 0,
        stand_ins=_stand_ins(text, strategy),
        target_size=target_size,
    )
    silence[heard & rows.silent] = Silence.UNMAPPED
    totals_T = np.ones(text.num_tokens, dtype=np.float32)
    totals_T[heard] = totals_N[positions[heard]]
    return Speech(
        rows=normalise(rows, totals=totals_T, renormalise=strategy.objective.tail == "renormalise"),
        silence=silence,
        num_aligned_rows=int(aligned.sum()),
        num_lossy_windows=sum(
            capture.rows_of(first + number).start == capture.rows_of(first + number).stop
            for number in range(text.num_windows)
        ),
        mass_seen=float(weights_NK.sum(axis=1, dtype=np.float64)[positions[heard]].sum()),
        mass_kept=float(rows.kept[heard].sum()),
    )


def _entries(capture: Capture, span: slice, *, sampled: bool) -> tuple[Array, Array, Array]:
    """(ids [N, K], probabilities [N, K], mass of the whole row [N]); tail samples are further columns."""
    ids_NK = capture.top_ids[span].astype(np.int32)
    weights_NK = np.exp(capture.top_logprobs[span].astype(np.float32))
    tails_N = np.exp(capture.tail_logprobs[span].astype(np.float32))
    totals_N = weights_NK.sum(axis=1) + tails_N
    num_samples = capture.sample_ids.shape[1]
    if sampled and num_samples > 0:
        ids_NK = np.concatenate([ids_NK, capture.sample_ids[span].astype(np.int32)], axis=1)
        each_N1 = np.repeat((tails_N / num_samples)[:, None], num_samples, axis=1)
        weights_NK = np.concatenate([weights_NK, each_N1], axis=1)
    return ids_NK, weights_NK, totals_N


def _faults(
    listener: Listener, ids_NK: Array, weights_NK: Array, totals_N: Array, *, max_collapsed: float
) -> Array:
    """int8 [N]; `QUARANTINED`, `WHITESPACE` or `NONE` for every row of the source."""
    faults = np.where(np.isnan(totals_N), Silence.QUARANTINED, Silence.NONE).astype(np.int8)
    if listener.vocabulary.collapses.any():
        collapsed_N = (weights_NK * listener.vocabulary.collapses[ids_NK]).sum(axis=1)
        faults[collapsed_N > max_collapsed * totals_N] = Silence.WHITESPACE
    return faults


def _contexts(text: TargetText) -> Array:
    """int8 [T]; a `Context` per row."""
    starts = np.where(text.is_spaced, Context.SPACED_START, Context.START)
    return np.where(text.is_start, starts, Context.INSIDE).astype(np.int8)


def _stand_ins(text: TargetText, strategy: Strategy) -> Array:
    """int32 [T]; what a source without a row says, in the reference: the token it has just read."""
    if strategy.alignment.unaligned != "one_hot_current":
        return np.full(text.num_tokens, -1, dtype=np.int32)
    return np.where(text.is_start | text.is_end, -1, text.token_ids).astype(np.int32)
