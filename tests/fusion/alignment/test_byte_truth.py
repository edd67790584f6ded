"""Mapped rows against the truth: what the target would read next, summed over every text.

A row of the source and one of the target speak of the same thing where both have read the same bytes and the
tokens read so far leave the same texts possible: canonical segmentation tells of letters to come, after `a`
there is no `b` where `ab` is one token. There the mapped row is the target's exact next-token distribution if
in every text to come the target's next token is the longest of its pieces with which the source's next token
begins, that is: it does not reach beyond that token, and no merge cuts it short. Elsewhere the distance
between the two is at most the probability of the texts in which it is not.

At the start of a text a source with a dummy prefix does not say whether the text begins with a space. To a
target without one that matters, and the rows are those of texts which begin as the one at hand.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from fusion.alignment.listeners import build_aligner
from fusion.alignment.speakers import Speech, align_windows, listen
from fusion.alignment.stage import run
from fusion.alignment.target_text import read_target_text
from fusion.io.atomic import write_json
from fusion.io.captures import shard_folder, write_capture
from fusion.io.lessons import read_lessons
from fusion.io.stage_inputs import StageInputs
from fusion.io.windows import windows_path, write_windows
from fusion.llms.token_bytes import TextEncoder
from fusion.progress import NullProgress
from tests.fusion.alignment.byte_worlds import (
    ByteModel,
    Row,
    byte_level,
    perfect_capture,
    read_texts,
    sentencepiece,
    texts_after,
    true_rows,
)
from tests.fusion.alignment.captures_by_hand import spec_of, windows_of
from tests.fusion.blending.rows_by_hand import entries_of

EVERYTHING = 99
SPEC = spec_of(
    sources=("source",),
    strategy={"target_as_source": False, "vocabulary": {"max_collapsed_whitespace": 1.0}},
)
FAMILIES = {"byte-level": byte_level, "sentencepiece": sentencepiece}
PAIRS = [(source, target) for source in FAMILIES for target in FAMILIES]
FINE = [("a", "b"), ("Ġ", "ab"), ("Ġ", "b")]
COARSE = [*FINE, ("Ġab", "a"), ("b", "b"), ("Ġb", "a"), ("ab", "b"), ("a", "a")]


@dataclass(frozen=True, slots=True)
class Place:
    """A row that a source speaks for: tokens of the text that target and source have read."""

    row: int
    text: str
    num_target: int
    num_source: int


class World:
    """Everything about a source and a target that the texts of a byte model decide."""

    def __init__(
        self,
        source: PreTrainedTokenizerFast,
        target: PreTrainedTokenizerFast,
        *,
        seed: int,
        top_k: int,
        max_length: int = 4,
    ) -> None:
        self.tokenizers = {"source": source, "target": target}
        self.source, self.target = TextEncoder(source), TextEncoder(target)
        self.texts = ByteModel(seed, max_length).texts()
        self.source_readings = read_texts(self.source, self.texts)
        self.target_readings = read_texts(self.target, self.texts)
        self.truth = true_rows(self.target_readings, self.texts)
        self.capture = perfect_capture(
            self.source_readings,
            true_rows(self.source_readings, self.texts),
            size=self.source.size,
            top_k=top_k,
        )
        self.possible_after_target = texts_after(self.target_readings)
        self.possible_after_source = texts_after(self.source_readings)

    @cached_property
    def speech(self) -> tuple[Speech, np.ndarray]:
        """What the stage hears, and the source row behind every target row."""
        start_id = self.target.start_id
        assert start_id is not None
        windows = windows_of(list(self.texts))
        text = read_target_text(windows, encoder=self.target, start_id=start_id, capture=None)
        aligner = build_aligner(SPEC, {"source": self.source, "target": self.target})
        (listener,) = aligner.listeners
        speech = listen(
            listener, text, self.capture, 0, strategy=SPEC.strategy, target_size=aligner.target_size
        )
        return speech, align_windows(listener, text, self.capture, 0, strict=False)

    def places(self) -> list[Place]:
        """The rows a source speaks for in which both sides leave the same texts possible, each kind once."""
        positions = self.speech[1]
        found: dict[tuple[object, ...], Place] = {}
        row = 0
        for number, text in enumerate(self.texts):
            target, source = self.target_readings[text], self.source_readings[text]
            for num_target in range(len(target.ids)):
                num_source = int(positions[row]) - self.capture.rows_of(number).start
                if positions[row] >= 0 and (
                    self.possible_after_target[target.ids[:num_target]]
                    == self.possible_after_source[source.ids[:num_source]]
                ):
                    kind = (target.ids[:num_target], num_target == 0 and text.startswith(" "))
                    found[kind] = Place(row, text, num_target, num_source)
                row += 1
            row += 1
        return list(found.values())

    def mapped(self, place: Place) -> tuple[Row, float]:
        rows = self.speech[0].rows
        return dict(entries_of(rows, place.row)), float(rows.tails[place.row])

    def true(self, place: Place) -> Row:
        return self.truth[self.target_readings[place.text].ids[: place.num_target]]

    def failing(self, place: Place) -> float:
        """Probability of the texts to come in which the target does not read what the rule says."""
        texts = self.possible_after_target[self.target_readings[place.text].ids[: place.num_target]]
        failing = sum(self.texts[each] for each in texts if not self._rule_holds(each, place))
        return failing / sum(self.texts[each] for each in texts)

    def cuts_a_token(self, place: Place) -> bool:
        """Whether in some text to come the target reads less than the source's next token."""
        texts = self.possible_after_target[self.target_readings[place.text].ids[: place.num_target]]
        ends = [
            (self.target_readings[each].ends[place.num_target + 1 :][:1], self.source_readings[each].ends)
            for each in texts
        ]
        return any(end < source_ends[place.num_source + 1 :][:1] for end, source_ends in ends)

    def save(self, root: Path) -> StageInputs:
        """Everything the stage reads, in half precision as always on disk."""
        prepared, extracted = root / "prepare", root / "extract.source"
        write_windows(windows_path(prepared, "train", 0), windows_of(list(self.texts)))
        half = {
            name: getattr(self.capture, name).astype(np.float16) for name in ("top_logprobs", "tail_logprobs")
        }
        write_capture(shard_folder(extracted, 0), replace(self.capture, **half), meta={})
        write_json(prepared / "models.json", {"target": {"vocabulary_size": self.target.size}})
        folders = {f"model-{name}": root / "models" / name for name in self.tokenizers}
        for name, tokenizer in self.tokenizers.items():
            tokenizer.save_pretrained(folders[f"model-{name}"])
        return StageInputs(steps={"prepare": prepared, "extract.source": extracted}, models=folders)

    def _rule_holds(self, text: str, place: Place) -> bool:
        target, source = self.target_readings[text], self.source_readings[text]
        at_start = place.num_target == 0
        hidden = at_start and self.source.mark == "▁" and self.target.mark != "▁"
        if hidden and text.startswith(" ") != place.text.startswith(" "):
            return False
        is_over, source_is_over = target.is_over(place.num_target), source.is_over(place.num_source)
        if is_over or source_is_over:
            return is_over and source_is_over
        begin, stop = target.ends[place.num_target], source.ends[place.num_source + 1]
        prefixed = at_start and self.target.mark == "▁" and not text.startswith(" ")
        data = b" " * prefixed + text.encode()[begin:stop]
        longest = max(len(piece) for piece in self.target.piece_bytes if data.startswith(piece))
        return target.ends[place.num_target + 1] == begin + longest - prefixed


def distance(found: Row, true: Row) -> float:
    """Total variation; of rows that do not add to 1, the greater of what is too much and too little."""
    excess = [found.get(each, 0.0) - true.get(each, 0.0) for each in found.keys() | true.keys()]
    return max(sum(each for each in excess if each > 0), -sum(each for each in excess if each < 0))


@st.composite
def merges(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Merges of two pieces each, letters or earlier merges, into pieces of at most three letters."""
    pieces, found = ["Ġ", "a", "b"], list[tuple[str, str]]()
    for first, second in draw(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=6)):
        pair = pieces[first % len(pieces)], pieces[second % len(pieces)]
        # Pre-tokenizers begin a word with its space, and leave no piece with one inside.
        if "Ġ" not in pair[1] and len("".join(pair)) <= 3 and pair not in found:
            found.append(pair)
            pieces.append("".join(pair))
    return found


worlds = st.tuples(merges(), merges(), st.integers(0, 99))


@pytest.mark.parametrize(("source", "target"), PAIRS)
@given(world=worlds)
@settings(max_examples=25)
def test_rows_are_no_further_from_the_truth_than_the_rule_fails(
    source: str, target: str, world: tuple[list[tuple[str, str]], list[tuple[str, str]], int]
) -> None:
    source_merges, target_merges, seed = world
    made = World(
        FAMILIES[source](source_merges), FAMILIES[target](target_merges), seed=seed, top_k=EVERYTHING
    )

    for place in made.places():
        row, tail = made.mapped(place)
        failing = made.failing(place)
        assert distance(row, made.true(place)) <= failing + 1e-6
        # A dummy prefix that is a token of its own stands for nothing in the text.
        assert tail <= failing + 1e-6


@pytest.mark.parametrize(("source", "target"), PAIRS)
@given(world=worlds, top_k=st.integers(1, 4))
@settings(max_examples=15)
def test_the_truth_lies_between_the_kept_mass_and_the_kept_mass_with_the_tail(
    source: str, target: str, world: tuple[list[tuple[str, str]], list[tuple[str, str]], int], top_k: int
) -> None:
    source_merges, target_merges, seed = world
    made = World(FAMILIES[source](source_merges), FAMILIES[target](target_merges), seed=seed, top_k=top_k)

    for place in made.places():
        row, tail = made.mapped(place)
        assert sum(row.values()) + tail == pytest.approx(1.0 if row else 0.0, abs=1e-5)
        if row and made.failing(place) == 0.0:
            for token_id, mass in made.true(place).items():
                assert -1e-5 <= mass - row.get(token_id, 0.0) <= tail + 1e-5


def exact_places(world: World) -> list[Place]:
    return [place for place in world.places() if world.failing(place) == 0.0]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_the_rule_holds_at_starts_inside_texts_and_where_a_token_is_cut(source: str, target: str) -> None:
    world = World(FAMILIES[source](COARSE), FAMILIES[target](FINE), seed=3, top_k=EVERYTHING, max_length=5)

    exact = exact_places(world)

    starts = [place for place in exact if place.num_target == 0]
    assert len(starts) == (0 if (source, target) == ("sentencepiece", "byte-level") else 2)
    assert len(exact) - len(starts) > 10
    cut = [place for place in exact if world.cuts_a_token(place)]
    assert len(cut) >= 2
    assert all(distance(world.mapped(place)[0], world.true(place)) < 1e-6 for place in exact)


def test_where_the_target_reaches_further_the_row_is_not_the_truth() -> None:
    world = World(byte_level(FINE), byte_level(COARSE), seed=3, top_k=EVERYTHING)

    wrong = [place for place in world.places() if world.failing(place) > 0.05]

    assert wrong
    assert all(distance(world.mapped(place)[0], world.true(place)) > 0.01 for place in wrong)


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("top_k", [2, EVERYTHING])
def test_lessons_on_disk_hold_the_truth_to_half_precision(
    tmp_path: Path, source: str, target: str, top_k: int
) -> None:
    world = World(FAMILIES[source](COARSE), FAMILIES[target](FINE), seed=3, top_k=top_k)

    run(SPEC, world.save(tmp_path), tmp_path / "out", progress=NullProgress())

    lessons = read_lessons(shard_folder(tmp_path / "out", 0))
    for place in exact_places(world):
        span = slice(*lessons.row_starts[place.row : place.row + 2].tolist())
        row = dict(zip(lessons.entry_ids[span].tolist(), lessons.entry_weights[span].tolist(), strict=True))
        tail = float(lessons.tails[place.row])
        assert sum(row.values()) + tail == pytest.approx(1.0, abs=4e-3)
        for token_id, mass in world.true(place).items():
            assert -4e-3 <= mass - row.get(token_id, 0.0) <= tail + 4e-3
