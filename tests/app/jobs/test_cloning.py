"""Specs with changes merged in."""

from typing import Any

import pytest

from app.jobs.cloning import merged_spec

SPEC: dict[str, Any] = {
    "name": "a",
    "sources": [{"name": "x"}, {"name": "y"}],
    "training": {"learning_rate": 1e-5, "num_epochs": 1},
    "corpus": {"files": [{"path": "/a"}], "dataset": None},
    "strategy": {"preset": "default", "alignment": {"tokens": "bytes"}, "extraction": {"top_k": 16}},
}


@pytest.mark.parametrize(
    ("overrides", "path", "expected"),
    [
        ({"training": {"learning_rate": 2e-5}}, ("training",), {"learning_rate": 2e-5, "num_epochs": 1}),
        ({"sources": [{"name": "z"}]}, ("sources",), [{"name": "z"}]),
        ({"name": None}, (), {name: value for name, value in SPEC.items() if name != "name"}),
        ({"corpus": {"files": None, "dataset": {"hub": "h"}}}, ("corpus",), {"dataset": {"hub": "h"}}),
        ({"strategy": {"extraction": {"top_k": 8}}}, ("strategy", "alignment"), {"tokens": "bytes"}),
        ({"strategy": {"preset": "paper"}}, ("strategy",), {"preset": "paper"}),
        ({"new": {"field": 1}}, ("new",), {"field": 1}),
    ],
)
def test_merging(overrides: dict[str, Any], path: tuple[str, ...], expected: object) -> None:
    merged: Any = merged_spec(SPEC, overrides)
    for name in path:
        merged = merged[name]

    assert merged == expected


def test_nothing_to_change_changes_nothing() -> None:
    assert merged_spec(SPEC, {}) == SPEC
