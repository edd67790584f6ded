"""Rows about `align`: which source position speaks for which target position, and what it says there."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein

from benchmarks import reference
from benchmarks.measuring import core_seconds
from benchmarks.rows import FIXED, REFERENCE_FIGURE, Row
from benchmarks.workbench import Workbench
from fusion.alignment.lesson_rows import TARGET
from fusion.alignment.listeners import build_aligner
from fusion.alignment.positions import align_by_pieces, build_piece_matcher
from fusion.alignment.speakers import Listener, align_windows, listen
from fusion.alignment.target_text import TargetText, read_target_text, text_ids
from fusion.alignment.token_alignment import align_dtw
from fusion.io.captures import Capture
from fusion.io.tensors import Array
from fusion.llms.token_bytes import TextEncoder

_MIN_TOKENS_PER_SECOND = 2_000_000.0
_DTW_SPEEDUP = 300.0
_CHECKED_TOKENS = 60
# Short work is repeated until the clock sees it.
_INNER_REPETITIONS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class _Corpus:
    """The windows as the target reads them, and a capture of every model over them."""

    text: TargetText
    captures: dict[str, Capture]


def rows(bench: Workbench) -> Iterator[Row]:
    """Both ways of aligning tokens, per core."""
    corpus = _corpus(bench)
    for name in ("llama", "mpt"):
        yield _dtw(bench, corpus, name)
    listeners = build_aligner(bench.spec("default"), bench.encoders).listeners
    for listener in listeners:
        if not listener.is_target:
            yield _boundary_and_byte_prefix(bench, corpus, listener)
    yield _whole(bench, corpus)


def _corpus(bench: Workbench) -> _Corpus:
    captures = {name: _made_up_capture(bench, name) for name in bench.encoders}
    encoder = bench.encoders[TARGET]
    if encoder.start_id is None:
        raise ValueError("the target's tokenizer has no start token")
    text = read_target_text(
        bench.windows, encoder=encoder, start_id=encoder.start_id, capture=captures[TARGET]
    )
    return _Corpus(text=text, captures=captures)


def _made_up_capture(bench: Workbench, name: str) -> Capture:
    """Real tokens with random rows: for speed only their number counts, and no model has to run.

    As many entries and tail samples as the default preset keeps.
    """
    text = bench.text(name, bench.windows)
    strategy = bench.spec("default").strategy
    top_k, num_samples = strategy.extraction.top_k, strategy.num_tail_samples
    random = np.random.default_rng(0)
    weights = np.sort(random.dirichlet(np.full(top_k + 1, 0.3), size=text.num_rows).astype(np.float32))[
        :, ::-1
    ]
    with np.errstate(divide="ignore"):
        logprobs = np.log(weights)
    size = bench.encoders[name].size
    first_ids = random.integers(0, size - top_k * 61, size=(text.num_rows, 1))
    return Capture(
        window_starts=text.window_starts,
        ends=text.ends,
        next_ids=text.next_ids,
        next_logprobs=logprobs[:, 0],
        top_ids=(first_ids + 61 * random.permutation(top_k)).astype(np.uint16),
        top_logprobs=logprobs[:, :top_k].astype(np.float16),
        tail_logprobs=logprobs[:, top_k].astype(np.float16),
        sample_ids=random.integers(0, size, size=(text.num_rows, num_samples)).astype(np.uint16),
    )


def _dtw(bench: Workbench, corpus: _Corpus, name: str) -> Row:
    source, target = bench.encoders[name], bench.encoders[TARGET]
    matcher = build_piece_matcher(
        target.pieces, source.pieces, target_mark=target.mark, source_mark=source.mark, soft_images=None
    )
    numbers = range(corpus.text.num_windows)
    pairs = [
        (text_ids(corpus.captures[TARGET], number), text_ids(corpus.captures[name], number))
        for number in numbers
    ]

    def align() -> None:
        for target_ids, source_ids in pairs:
            align_by_pieces(target_ids, source_ids, matcher=matcher)

    _require_same_matches(*pairs[0], source=source, target=target)
    timed = core_seconds(align, repetitions=bench.sizes.repetitions)
    num_tokens = sum(len(target_ids) for target_ids, _ in pairs)
    speed = num_tokens / timed.median
    reference_speed = reference.dtw_tokens_per_second(source.size)
    return Row(
        name=f"dtw.{source.size}",
        work=f"{num_tokens:,} target tokens in {len(pairs)} windows, source of {source.size:,} pieces",
        unit="tokens/s/core",
        measured=speed,
        compared=reference_speed,
        compared_with="the reference's tokens/s",
        basis=REFERENCE_FIGURE,
        ratio=speed / reference_speed,
        direction="at least",
        target_ratio=_DTW_SPEEDUP,
        noise_margin=timed.noise_margin,
        details={"core_seconds": timed.seconds},
    )


def _require_same_matches(
    target_ids: Array, source_ids: Array, *, source: TextEncoder, target: TextEncoder
) -> None:
    """Compare the compiled warp with the textbook one on the beginning of a window."""
    target_pieces = [target.pieces[token_id] for token_id in target_ids[:_CHECKED_TOKENS].tolist()]
    source_pieces = [source.pieces[token_id] for token_id in source_ids[:_CHECKED_TOKENS].tolist()]
    found = align_dtw(target_pieces, source_pieces, target_mark=target.mark, source_mark=source.mark)
    expected = _textbook_warp(
        [piece.replace(target.mark, "") for piece in target_pieces],
        [piece.replace(source.mark, "") for piece in source_pieces],
    )
    if found != expected:
        raise AssertionError("align_dtw does not match what the recurrence says")


def _textbook_warp(target_pieces: list[str], source_pieces: list[str]) -> list[list[int]]:
    """Source positions of each target position, by the recurrence as it is written."""
    costs: dict[tuple[int, int], int] = {}
    for j, source_piece in enumerate(source_pieces):
        for i, target_piece in enumerate(target_pieces):
            before = [costs[move] for move in _moves(j, i) if move in costs]
            costs[j, i] = Levenshtein.distance(source_piece, target_piece) + min(before, default=0)
    matched: list[list[int]] = [[] for _ in target_pieces]
    place = (len(source_pieces) - 1, len(target_pieces) - 1)
    while True:
        matched[place[1]].insert(0, place[0])
        if place == (0, 0):
            return matched
        place = min((move for move in _moves(*place) if move in costs), key=lambda move: costs[move])


def _moves(j: int, i: int) -> tuple[tuple[int, int], ...]:
    """Where a path can come from; the first minimum wins."""
    return ((j - 1, i - 1), (j - 1, i), (j, i - 1))


def _boundary_and_byte_prefix(bench: Workbench, corpus: _Corpus, listener: Listener) -> Row:
    text, capture = corpus.text, corpus.captures[listener.name]
    strategy = bench.spec("default").strategy
    target_size = bench.encoders[TARGET].size

    def hear() -> None:
        for _ in range(_INNER_REPETITIONS):
            listen(listener, text, capture, 0, strategy=strategy, target_size=target_size)

    def boundaries() -> None:
        for _ in range(_INNER_REPETITIONS):
            align_windows(listener, text, capture, 0, strict=False)

    timed = core_seconds(hear, repetitions=bench.sizes.repetitions)
    alone = core_seconds(boundaries, repetitions=bench.sizes.repetitions)
    num_tokens = text.num_tokens * _INNER_REPETITIONS
    speed = num_tokens / timed.median
    return Row(
        name=f"boundary_and_byte_prefix.{bench.encoders[listener.name].size}",
        work=f"{text.num_tokens:,} target tokens: align, rename 20 entries each, add, normalise",
        unit="tokens/s/core",
        measured=speed,
        compared=_MIN_TOKENS_PER_SECOND,
        compared_with="what is asked for",
        basis=FIXED,
        ratio=speed / _MIN_TOKENS_PER_SECOND,
        direction="at least",
        target_ratio=1.0,
        noise_margin=timed.noise_margin,
        details={
            "core_seconds": timed.seconds,
            "boundary_alignment_alone_tokens_per_second": num_tokens / max(alone.median, 1e-9),
        },
    )


def _whole(bench: Workbench, corpus: _Corpus) -> Row:
    aligner = build_aligner(bench.spec("default"), bench.encoders)
    timed = core_seconds(
        lambda: aligner.align(corpus.text, corpus.captures, 0), repetitions=bench.sizes.repetitions
    )
    return Row(
        name="align.default",
        work=f"{corpus.text.num_tokens:,} target tokens, 3 speakers: from captures to lessons",
        unit="tokens/s/core",
        measured=corpus.text.num_tokens / timed.median,
        noise_margin=timed.noise_margin,
        details={"core_seconds": timed.seconds},
    )
