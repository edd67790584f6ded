"""`fusion recipe` against the service itself."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fusion.spec_text import parse_spec
from tests.app.cli.conftest import Ran
from tests.support.api import make_api
from tests.support.serving import serving

FILLING = [
    "--set=corpus=file-06f3k9x2q4v8t1m7c5b0z6n3ha",
    "--set=target=model-06f3k9x2q4v8t1m7c5b0z6n3ha",
    "--set=source=model-06f3k9x2q4v8t1m7c5b0z6n3hb",
]
Fusion = Callable[..., Ran]


@pytest.fixture
def running(fusion: Fusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fusion]:
    api = make_api(tmp_path / "service", housekeeping=False)
    with serving(api.app) as url:
        monkeypatch.setenv("FUSION_URL", url)
        monkeypatch.setenv("FUSION_API_KEY", api.headers["Authorization"].partition(" ")[2])
        yield fusion


def test_recipes_are_listed_shown_and_filled(running: Fusion) -> None:
    listed, shown = running("recipe", "list"), running("recipe", "show", "small-cpu")
    filled = running("recipe", "fill", "small-cpu@1", *FILLING, "--set=learning_rate=1e-3", "--set=seed=7")

    assert "small-cpu@1\tOne small model into another" in listed.out
    assert "target\tneeded\t" in shown.out
    assert "max_steps\t200\tStop after this many optimiser steps" in shown.out
    spec = parse_spec(filled.out)
    assert (spec.training.learning_rate, spec.seed) == (1e-3, 7)
    assert running("recipe", "show", "small-cpu", "--json").json["id"] == "small-cpu@1"


def test_what_is_wrong_with_the_parameters_is_said(running: Fusion) -> None:
    missing = running("recipe", "fill", "small-cpu")
    unknown = running("recipe", "fill", "nothing")
    no_pair = running("recipe", "fill", "small-cpu", "--set", "target")

    assert (missing.code, unknown.code, no_pair.code) == (2, 4, 2)
    assert "/target" in missing.err
    assert "GET /v1/recipes/small-cpu@1" in missing.err
    assert "small-cpu@1" in unknown.err
