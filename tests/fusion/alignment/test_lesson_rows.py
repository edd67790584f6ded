from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from fusion.alignment.lesson_rows import join_lessons
from fusion.alignment.listeners import build_aligner
from fusion.alignment.tally import Tally
from fusion.alignment.target_text import TargetText, read_target_text
from fusion.blending.mixing import NOBODY, SEVERAL
from fusion.io.captures import Capture
from fusion.io.lessons import Lessons
from fusion.llms.token_bytes import TextEncoder
from tests.fusion.alignment.captures_by_hand import TEXTS, encoder_of, random_capture, spec_of, windows_of

TOKENIZERS = {"target": "llama_like", "mpt": "mpt_like", "open": "openllama_like"}
WINDOWS = windows_of(TEXTS)


@cache
def encoder(name: str) -> TextEncoder:
    return encoder_of(TOKENIZERS[name])


@cache
def capture(name: str, num_samples: int = 0) -> Capture:
    return random_capture(WINDOWS, encoder(name), seed=len(name), num_samples=num_samples)


@cache
def text() -> TargetText:
    return read_target_text(WINDOWS, encoder=encoder("target"), start_id=1, capture=None)


def align(
    captures: dict[str, Capture] | None = None, *, sources: tuple[str, ...] = ("mpt", "open"), **strategy: Any
) -> tuple[Lessons, Tally]:
    spec = spec_of(sources=sources, strategy=strategy)
    aligner = build_aligner(spec, {name: encoder(name) for name in ("target", *sources)})
    num_samples = spec.strategy.num_tail_samples
    given = {name: capture(name, num_samples) for name in spec.captured_names} | (captures or {})
    return aligner.align(text(), given, 0)


def row_sums(lessons: Lessons) -> Any:
    sums = np.concatenate([[0.0], np.cumsum(lessons.entry_weights, dtype=np.float64)])
    return np.diff(sums[lessons.row_starts])


def entries(lessons: Lessons, row: int) -> list[tuple[int, float]]:
    span = slice(lessons.row_starts[row], lessons.row_starts[row + 1])
    return list(zip(lessons.entry_ids[span].tolist(), lessons.entry_weights[span].tolist(), strict=True))


STRATEGIES = [
    {},
    {"preset": "paper"},
    {"preset": "paper", "blending": {"rule": "avg_ce"}},
    {"target_as_source": False, "vocabulary": {"map": "exact"}, "alignment": {"strict": True}},
    {"blending": {"rule": "avg_ce", "granularity": "token", "window_bytes": 16}},
    {"blending": {"rule": "weighted", "weights": {"target": 1.0, "mpt": 2.0, "open": 0.0}}},
    {"objective": {"tail": "sampled"}, "extraction": {"num_tail_samples": 4}},
    {"alignment": {"unaligned": "one_hot_next"}, "blending": {"granularity": "window", "window_bytes": 16}},
    {"alignment": {"tokens": "dtw", "dtw_match": "hard"}},
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_every_taught_row_is_a_distribution(strategy: dict[str, Any]) -> None:
    lessons, tally = align(**strategy)

    taught = np.diff(lessons.row_starts) > 0
    assert (row_sums(lessons) + lessons.tails)[taught] == pytest.approx(1.0, abs=2e-3)
    assert not lessons.tails[~taught].any()
    assert (lessons.entry_weights > 0).all()
    assert (lessons.speakers[~taught] == NOBODY).all()
    assert not taught[text().is_end].any()
    assert tally.num_rows == taught.sum() + sum(tally.masked.values())
    for row in range(lessons.num_tokens):
        ids, weights = zip(*entries(lessons, row), strict=True) if taught[row] else ((), ())
        assert len(set(ids)) == len(ids)
        assert list(weights) == sorted(weights, reverse=True)


def test_arrays_have_the_types_of_the_format() -> None:
    lessons, _ = align()

    types = {name: str(getattr(lessons, name).dtype) for name in Lessons.__slots__}
    assert types == {
        "window_starts": "int64",
        "token_ids": "int32",
        "row_starts": "int64",
        "entry_ids": "int32",
        "entry_weights": "float16",
        "tails": "float16",
        "speakers": "int8",
        "rivals": "int8",
        "rival_nats": "float16",
    }


def test_the_best_speaker_of_a_sequence_speaks_in_all_of_it() -> None:
    lessons, tally = align(alignment={"unaligned": "mask"})

    for start, stop in zip(lessons.window_starts[:-1], lessons.window_starts[1:], strict=True):
        assert len(set(lessons.speakers[start:stop].tolist()) - {NOBODY}) == 1
    counted = {name: speaker.share for name, speaker in tally.speakers.items()}
    found = {name: float((lessons.speakers == index).sum()) for index, name in enumerate(counted)}
    assert counted == found


def test_the_target_as_only_winner_gives_back_its_own_rows() -> None:
    weights = {"target": 1.0, "mpt": 0.0, "open": 0.0}

    lessons, _ = align(blending={"rule": "weighted", "weights": weights}, objective={"tail": "bucket"})

    own = capture("target")
    rows = np.flatnonzero(~text().is_end)
    assert len(rows) == own.num_rows
    for row, own_row in zip(rows.tolist(), range(own.num_rows), strict=True):
        ids, found = zip(*entries(lessons, row), strict=True)
        assert list(ids) == own.top_ids[own_row].tolist()
        assert found == pytest.approx(np.exp(own.top_logprobs[own_row].astype(float)).tolist(), rel=5e-3)


def test_renormalised_rows_have_no_tail_and_a_bucket_keeps_it() -> None:
    bucket, _ = align(objective={"tail": "bucket"})
    renormalised, _ = align(objective={"tail": "renormalise"})

    assert not renormalised.tails.any()
    assert (bucket.tails[np.diff(bucket.row_starts) > 0] > 0).all()
    assert bucket.row_starts.tolist() == renormalised.row_starts.tolist()


def test_tail_samples_take_the_place_of_the_tail() -> None:
    weights = {"target": 1.0, "mpt": 0.0, "open": 0.0}
    sampled, _ = align(
        blending={"rule": "weighted", "weights": weights},
        objective={"tail": "sampled"},
        extraction={"num_tail_samples": 4},
    )

    own = capture("target", 4)
    assert not sampled.tails.any()
    tail = float(np.exp(own.tail_logprobs[0].astype(float)))
    drawn, counts = np.unique(own.sample_ids[0], return_counts=True)
    found = dict(entries(sampled, 0))
    assert [found[token_id] for token_id in drawn.tolist()] == pytest.approx(counts * tail / 4, rel=5e-3)


def test_unaligned_rows_are_masked_or_teach_one_token() -> None:
    masked, tally = align(target_as_source=False, sources=("mpt",))
    following, _ = align(target_as_source=False, sources=("mpt",), alignment={"unaligned": "one_hot_next"})
    current, _ = align(target_as_source=False, sources=("mpt",), alignment={"unaligned": "one_hot_current"})

    unaligned = np.flatnonzero((np.diff(masked.row_starts) == 0) & ~text().is_end)
    assert 0 < len(unaligned) == sum(tally.masked.values())
    for row in unaligned.tolist():
        assert entries(following, row) == [(int(text().token_ids[row + 1]), 1.0)]
        assert entries(current, row) == [(int(text().token_ids[row]), 1.0)]
    assert (following.speakers[unaligned] == NOBODY).all()


def test_mixing_leaves_out_who_is_unaligned_except_as_the_reference_does() -> None:
    strategy = {"target_as_source": True, "sources": ("mpt",), "blending": {"rule": "avg_ce"}}
    mixed, tally = align(**strategy)
    as_reference, _ = align(**strategy, alignment={"unaligned": "one_hot_current"})

    alone = mixed.speakers == 0
    assert alone.sum() == tally.num_rows - tally.speakers["mpt"].num_aligned_rows
    for row in np.flatnonzero(alone).tolist():
        current = int(text().token_ids[row])
        copied = dict(entries(as_reference, row))[current]
        assert copied > dict(entries(mixed, row)).get(current, 0.0) + 0.2
        assert as_reference.speakers[row] == SEVERAL


def test_quarantined_rows_count_as_unaligned_for_their_source() -> None:
    broken = capture("mpt")
    top_logprobs = broken.top_logprobs.copy()
    next_logprobs = broken.next_logprobs.copy()
    top_logprobs[[0, 5]], next_logprobs[[0, 5]] = np.nan, np.nan
    broken = replace(broken, top_logprobs=top_logprobs, next_logprobs=next_logprobs)

    lessons, tally = align({"mpt": broken}, sources=("mpt",), target_as_source=False)

    assert tally.speakers["mpt"].num_quarantined_rows >= 1
    assert tally.masked["quarantined"] == tally.speakers["mpt"].num_quarantined_rows
    assert entries(lessons, 0) == []
    assert np.isfinite(lessons.entry_weights.astype(float)).all()


def test_a_source_with_hardly_any_finite_row_wins_nothing() -> None:
    lucky = capture("mpt")
    next_logprobs = np.full(lucky.num_rows, np.nan, dtype=np.float32)
    next_logprobs[lucky.window_starts[:-1]] = 0.0

    _, tally = align({"mpt": replace(lucky, next_logprobs=next_logprobs)}, sources=("mpt",))

    assert tally.speakers["mpt"].share == 0.0
    assert tally.speakers["target"].share > 0.0


def test_the_start_of_a_window_is_taught_with_the_space_it_begins_with() -> None:
    windows = windows_of([" the sum", "the sum"])
    read = {name: encoder(other) for name, other in (("target", "mpt"), ("llama", "target"))}
    start_id = read["target"].start_id
    assert start_id is not None
    given = read_target_text(windows, encoder=read["target"], start_id=start_id, capture=None)
    certain = random_capture(windows, read["llama"], top_k=1)
    certain.top_ids[certain.window_starts[:-1], 0] = read["llama"].pieces.index("▁the")

    lessons, _ = build_aligner(spec_of(sources=("llama",), strategy={"target_as_source": False}), read).align(
        given, {"llama": certain}, 0
    )

    taught = [entries(lessons, int(start))[0][0] for start in given.window_starts[:-1]]
    assert [read["target"].pieces[token_id] for token_id in taught] == ["Ġthe", "th"]


def test_a_source_is_absent_where_it_cannot_read_the_window() -> None:
    whole = capture("mpt")
    first = whole.rows_of(0).stop
    cut = {name: getattr(whole, name)[first:] for name in Capture.__slots__ if name != "window_starts"}
    starts = np.array([0, *(whole.window_starts[1:] - first)])

    lessons, tally = align(
        {"mpt": Capture(window_starts=starts, **cut)}, sources=("mpt",), target_as_source=False
    )

    assert tally.speakers["mpt"].num_lossy_windows == 1
    assert lessons.row_starts[lessons.window_starts[1]] == 0
    assert tally.masked["no_source"] == lessons.window_starts[1] - 1
    assert lessons.row_starts[-1] > 0


def test_rows_of_collapsing_whitespace_are_masked_under_every_rule() -> None:
    strategy: dict[str, Any] = {
        "sources": ("open",),
        "target_as_source": False,
        "vocabulary": {"max_collapsed_whitespace": 0.0},
    }
    source, target = encoder("open"), encoder("target")
    spaces = [i for i, data in enumerate(source.piece_bytes) if data.isspace() and len(data) > 1]
    collapsing = [i for i in spaces if source.piece_bytes[i] not in target.piece_bytes]
    assert collapsing, "the source must have a run of whitespace that is no piece of the target"
    whole = capture("open")
    top_ids = whole.top_ids.copy()
    top_ids[3, 0] = collapsing[0]

    _, tally = align(
        {"open": replace(whole, top_ids=top_ids)}, **strategy, alignment={"unaligned": "one_hot_next"}
    )

    assert tally.masked["whitespace"] >= 1


def test_nothing_is_taught_where_the_target_is_already_better() -> None:
    perfect = replace(capture("target"), next_logprobs=np.zeros(capture("target").num_rows, dtype=np.float32))
    hopeless = replace(perfect, next_logprobs=perfect.next_logprobs - 50)
    skip = {"skip_if_target_better": True}

    nothing, tally = align({"target": perfect}, blending=skip, target_as_source=False)
    everything, _ = align({"target": hopeless}, blending=skip, target_as_source=False)
    plain, _ = align(target_as_source=False)

    assert tally.masked == {"target_better": tally.num_rows}
    assert nothing.row_starts[-1] == 0
    assert everything.entry_ids.tolist() == plain.entry_ids.tolist()
    assert set(tally.speakers) == {"mpt", "open"}


def test_windows_aligned_apart_and_joined_are_the_windows_aligned_together() -> None:
    spec = spec_of(sources=("mpt", "open"))
    aligner = build_aligner(spec, {name: encoder(name) for name in TOKENIZERS})
    captures = {name: capture(name) for name in spec.captured_names}

    whole, whole_tally = aligner.align(text(), captures, 0)
    parts = [aligner.align(text().part(first, first + 1), captures, first) for first in range(len(WINDOWS))]

    joined, tally = join_lessons([lessons for lessons, _ in parts]), Tally()
    for _, counts in parts:
        tally.add(counts)
    for name in Lessons.__slots__:
        assert getattr(joined, name).tobytes() == getattr(whole, name).tobytes()
    assert Tally.from_dict(tally.to_dict()).masked == whole_tally.masked
    assert tally.num_entries == whole_tally.num_entries


def test_the_target_reads_the_same_from_its_capture_as_from_its_tokenizer() -> None:
    from_capture = read_target_text(WINDOWS, encoder=encoder("target"), start_id=1, capture=capture("target"))

    for name in TargetText.__slots__:
        assert getattr(from_capture, name).tolist() == getattr(text(), name).tolist()
