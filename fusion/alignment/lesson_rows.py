"""From captures to lessons, for a run of windows.

Letters: `S` speakers in the order of `spec.speaker_names`, `T` rows of the lessons.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fusion.alignment.rivals import Rivalry, measure_rivals
from fusion.alignment.speakers import Listener, Silence, Speech, listen, score_windows
from fusion.alignment.tally import SpeakerTally, Tally, count_reasons
from fusion.alignment.target_text import TargetText
from fusion.blending.mixing import NOBODY, Mixture, mix_rows
from fusion.blending.rules import share_out, target_is_better
from fusion.blending.sparse_rows import SparseRows
from fusion.io.captures import Capture
from fusion.io.lessons import Lessons
from fusion.io.tensors import Array
from fusion.spec import FusionSpec, Unaligned

TARGET = "target"


@dataclass(frozen=True, kw_only=True, slots=True)
class Aligner:
    """Everything about a job that does not change from window to window.

    listeners: one per speaker, in the order of `spec.speaker_names`.
    target_size: ids of the target's tokenizer; those without a row in its head are no images.
    """

    spec: FusionSpec
    listeners: list[Listener]
    target_size: int

    def align(self, text: TargetText, captures: Mapping[str, Capture], first: int) -> tuple[Lessons, Tally]:
        """Lessons of the windows of `text`; `first` is the number of its first window in the captures."""
        strategy = self.spec.strategy
        speeches = [
            listen(
                listener,
                text,
                captures[listener.name],
                first,
                strategy=strategy,
                target_size=self.target_size,
            )
            for listener in self.listeners
        ]
        scores = {
            name: score_windows(text, capture, first, blending=strategy.blending)
            for name, capture in captures.items()
        }
        shares_ST = share_out(
            np.stack([scores[listener.name] for listener in self.listeners]),
            spec=strategy.blending,
            speaker_names=[listener.name for listener in self.listeners],
        )
        better = np.zeros(text.num_tokens, dtype=bool)
        if strategy.blending.skip_if_target_better:
            others = [source.name for source in self.spec.sources]
            better = target_is_better(scores[TARGET], np.stack([scores[name] for name in others]))
        shares_ST[:, better | text.is_end] = 0.0
        silence = _silence(speeches, shares_ST, better=better)
        mixture = self._blend(text, speeches, shares_ST, silence)
        rivalry = measure_rivals(
            text,
            [captures[listener.name] for listener in self.listeners],
            first,
            shares_ST=shares_ST,
        )
        return self._finish(text, speeches, mixture, silence, rivalry)

    def _blend(self, text: TargetText, speeches: list[Speech], shares_ST: Array, silence: Array) -> Mixture:
        """Mix the speakers; where none speaks, the rule for unaligned rows does, as one voice more."""
        rows_S = [speech.rows for speech in speeches]
        nobody = ~np.any((shares_ST > 0) & ~np.stack([rows.silent for rows in rows_S]), axis=0)
        stand_ins = _one_hot_ids(text, self.spec.strategy.alignment.unaligned)
        stand_ins[~nobody | (silence >= Silence.TARGET_BETTER) | (silence == Silence.WHITESPACE)] = -1
        voices_ST = np.stack([speech.silence == Silence.NONE for speech in speeches])
        return mix_rows(
            [*rows_S, _one_hot_rows(stand_ins)],
            shares_ST=np.concatenate([shares_ST, nobody[None].astype(np.float32)]),
            voices_ST=np.concatenate([voices_ST, np.zeros((1, text.num_tokens), dtype=bool)]),
            vocabulary_size=self.target_size,
        )

    def _finish(
        self,
        text: TargetText,
        speeches: list[Speech],
        mixture: Mixture,
        silence: Array,
        rivalry: Rivalry,
    ) -> tuple[Lessons, Tally]:
        rows = _in_half_precision(mixture.rows)
        silent = rows.silent
        speakers = np.where(silent, NOBODY, mixture.speakers).astype(np.int8)
        lessons = Lessons(
            window_starts=text.window_starts,
            token_ids=text.token_ids,
            row_starts=rows.row_starts,
            entry_ids=rows.ids,
            entry_weights=rows.weights,
            tails=np.where(silent, np.float16(0.0), rows.tails),
            speakers=speakers,
            rivals=rivalry.rivals,
            rival_nats=rivalry.nats,
        )
        # A speaker may have nothing to say in half precision: all of its row lies in the tail.
        reasons = np.where(silence == Silence.NONE, Silence.UNMAPPED, silence)
        reasons = np.where(silent & ~text.is_end, reasons, Silence.NONE)
        tally = Tally(
            num_windows=text.num_windows,
            num_sequences=int(np.count_nonzero(np.diff(text.window_starts))),
            num_target_tokens=text.num_tokens,
            num_rows=int(np.count_nonzero(~text.is_end)),
            num_entries=len(rows.ids),
            num_one_hot_rows=int(np.count_nonzero(~silent & (speakers == NOBODY))),
            masked=count_reasons(reasons),
            speakers={
                listener.name: _tally_of(speech, mixture.shares_ST[index], speaks=speakers != NOBODY)
                for index, (listener, speech) in enumerate(zip(self.listeners, speeches, strict=True))
            },
        )
        return lessons, tally


def join_lessons(parts: list[Lessons]) -> Lessons:
    """Lessons of consecutive runs of windows as one."""
    return Lessons(
        window_starts=_join_starts([part.window_starts for part in parts]),
        token_ids=np.concatenate([part.token_ids for part in parts]),
        row_starts=_join_starts([part.row_starts for part in parts]),
        entry_ids=np.concatenate([part.entry_ids for part in parts]),
        entry_weights=np.concatenate([part.entry_weights for part in parts]),
        tails=np.concatenate([part.tails for part in parts]),
        speakers=np.concatenate([part.speakers for part in parts]),
        rivals=np.concatenate([part.rivals for part in parts]),
        rival_nats=np.concatenate([part.rival_nats for part in parts]),
    )


def _join_starts(parts: list[Array]) -> Array:
    offsets = np.cumsum([0, *(int(part[-1]) for part in parts)])
    shifted = [part[:-1] + offset for part, offset in zip(parts, offsets, strict=False)]
    return np.concatenate([*shifted, offsets[-1:]])


def _silence(speeches: list[Speech], shares_ST: Array, *, better: Array) -> Array:
    """int8 [T]; the gravest reason for silence of those who have a share in the row."""
    reasons_ST = np.stack([speech.silence for speech in speeches])
    reasons_T = np.max(np.where(shares_ST > 0, reasons_ST, Silence.NONE), axis=0)
    reasons_T = np.where((shares_ST > 0).any(axis=0), reasons_T, Silence.NO_SOURCE)
    return np.where(better, Silence.TARGET_BETTER, reasons_T).astype(np.int8)


def _one_hot_ids(text: TargetText, unaligned: Unaligned) -> Array:
    """int32 [T]; what an unaligned row teaches, -1 for nothing."""
    if unaligned == "mask":
        return np.full(text.num_tokens, -1, dtype=np.int32)
    if unaligned == "one_hot_next":
        return text.next_ids
    return np.where(text.is_start | text.is_end, -1, text.token_ids).astype(np.int32)


def _one_hot_rows(ids: Array) -> SparseRows:
    """Rows with the one entry given, silent where it is -1."""
    given = ids >= 0
    return SparseRows(
        row_starts=np.cumsum([0, *given], dtype=np.int64),
        ids=ids[given],
        weights=np.ones(int(given.sum()), dtype=np.float32),
        tails=np.zeros(len(ids), dtype=np.float32),
    )


def _in_half_precision(rows: SparseRows) -> SparseRows:
    """fp16 weights and tails; entries too small for fp16 are dropped."""
    weights = rows.weights.astype(np.float16)
    kept = weights > 0
    num_kept_before = np.concatenate([[0], np.cumsum(kept)])
    return SparseRows(
        row_starts=num_kept_before[rows.row_starts],
        ids=rows.ids[kept],
        weights=weights[kept],
        tails=rows.tails.astype(np.float16),
    )


def _tally_of(speech: Speech, shares: Array, *, speaks: Array) -> SpeakerTally:
    return SpeakerTally(
        num_lossy_windows=speech.num_lossy_windows,
        num_aligned_rows=speech.num_aligned_rows,
        num_quarantined_rows=int(np.count_nonzero(speech.silence == Silence.QUARANTINED)),
        num_whitespace_rows=int(np.count_nonzero(speech.silence == Silence.WHITESPACE)),
        share=float(shares[speaks].sum(dtype=np.float64)),
        mass_seen=speech.mass_seen,
        mass_kept=speech.mass_kept,
    )
