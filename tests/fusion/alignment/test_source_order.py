"""The order in which sources are given changes no bit of the lessons, ties aside."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import permutations
from typing import Any

import pytest

from fusion.alignment.listeners import build_aligner
from fusion.alignment.target_text import read_target_text
from fusion.io.captures import Capture
from fusion.io.lessons import Lessons
from fusion.llms.token_bytes import TextEncoder
from tests.fusion.alignment.captures_by_hand import TEXTS, encoder_of, random_capture, spec_of, windows_of

TOKENIZERS = {"target": "llama_like", "mpt": "mpt_like", "open": "openllama_like", "twin": "mpt_like"}
WINDOWS = windows_of(TEXTS)
STRATEGIES: list[dict[str, Any]] = [
    {},
    {"blending": {"rule": "avg_ce", "granularity": "token", "window_bytes": 16}},
    {"blending": {"rule": "weighted", "weights": {"target": 1.0, "mpt": 0.7, "open": 0.3, "twin": 0.1}}},
    {"preset": "paper", "blending": {"rule": "avg_ce"}},
    {"objective": {"tail": "sampled"}, "extraction": {"num_tail_samples": 4}, "blending": {"rule": "avg_ce"}},
]


@cache
def encoder(name: str) -> TextEncoder:
    return encoder_of(TOKENIZERS[name])


@cache
def capture(name: str, num_samples: int) -> Capture:
    return random_capture(WINDOWS, encoder(name), seed=sum(name.encode()), num_samples=num_samples)


def lessons_of(sources: Sequence[str], strategy: dict[str, Any], **captures: Capture) -> Lessons:
    spec = spec_of(sources=sources, strategy=strategy)
    num_samples = spec.strategy.num_tail_samples
    text = read_target_text(WINDOWS, encoder=encoder("target"), start_id=1, capture=None)
    aligner = build_aligner(spec, {name: encoder(name) for name in ("target", *sources)})
    given = {name: capture(name, num_samples) for name in spec.captured_names} | captures
    return aligner.align(text, given, 0)[0]


def speaker_names(
    sources: Sequence[str], strategy: dict[str, Any], lessons: Lessons, field: str = "speakers"
) -> list[str]:
    names = spec_of(sources=sources, strategy=strategy).speaker_names
    return [names[index] if index >= 0 else str(index) for index in getattr(lessons, field).tolist()]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_every_order_gives_the_same_bytes(strategy: dict[str, Any]) -> None:
    sources = ("mpt", "open", "twin")
    first = lessons_of(sources, strategy)

    for order in list(permutations(sources))[1:]:
        other = lessons_of(order, strategy)
        for name in Lessons.__slots__:
            if name in ("speakers", "rivals"):
                named = speaker_names(order, strategy, other, name)
                assert named == speaker_names(sources, strategy, first, name)
            else:
                assert getattr(other, name).tobytes() == getattr(first, name).tobytes(), name


def test_ties_go_to_the_source_given_first_whatever_it_says() -> None:
    twin = capture("twin", 0)
    same_score = replace(twin, next_logprobs=capture("mpt", 0).next_logprobs)
    strategy = {"target_as_source": False}

    for order in (("mpt", "twin"), ("twin", "mpt")):
        lessons = lessons_of(order, strategy, twin=same_score)
        assert set(speaker_names(order, strategy, lessons)) == {order[0], "-1"}


def test_a_source_given_twice_under_two_names_is_the_source() -> None:
    once = lessons_of(("mpt",), {"target_as_source": False})

    twice = lessons_of(("mpt", "twin"), {"target_as_source": False}, twin=capture("mpt", 0))

    for name in Lessons.__slots__:
        assert getattr(twice, name).tobytes() == getattr(once, name).tobytes()
