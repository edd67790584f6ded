"""The quality benchmark: it runs from text to verdict, and its verdicts are what its numbers say."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality import goal, texts
from benchmarks.quality.__main__ import main
from benchmarks.quality.regimes import FULL
from benchmarks.quality.report import OVERALL, RegimeReport, build_report, markdown
from benchmarks.quality.variants import CONTROL, DEFAULT, PAPER, SINGLE_CHANGES
from fusion.evaluation.documents import HeldOutDocument
from fusion.io.tensors import Array

DOCUMENTS = [
    HeldOutDocument(number=number, domain="code" if number % 2 else "prose", windows=("x" * 100,))
    for number in range(60)
]
LIBRARIES = ("jinja2", "redis")


def scores(seed: int, **shifts: float) -> Mapping[str, Array]:
    """Nats per document: noise that all models share, a shift per model and a little noise of its own."""
    random = np.random.default_rng(seed)
    shared = random.normal(200, 40, len(DOCUMENTS))
    return {name: shared + shift + random.normal(0, 0.1, len(DOCUMENTS)) for name, shift in shifts.items()}


def report(**shifts: float) -> RegimeReport:
    return report_on(DOCUMENTS, trained_on=(), **shifts)


def report_on(
    documents: Sequence[HeldOutDocument], *, trained_on: Collection[str], **shifts: float
) -> RegimeReport:
    return build_report(
        {"name": "made up", "description": ""},
        documents,
        [scores(seed, **shifts) for seed in range(3)],
        fused=[DEFAULT.name, PAPER.name],
        control=CONTROL,
        default=DEFAULT.name,
        trained_on=trained_on,
    )


def test_the_goal_needs_a_win_over_control_and_paper_in_one_regime() -> None:
    won = report(control=0.0, default=-1.0, paper=-0.5)
    tied_with_paper = report(control=0.0, default=-1.0, paper=-1.0)

    assert goal.judge([won]).reached
    assert not goal.judge([tied_with_paper]).reached
    assert goal.judge([tied_with_paper, won]).reached


def test_one_regime_worse_than_the_control_loses_the_goal() -> None:
    won, lost = report(control=0.0, default=-1.0, paper=-0.5), report(control=0.0, default=0.5, paper=0.9)

    found = goal.judge([won, lost])

    assert not found.reached
    assert "MISSED" in found.sentences[-1]


def test_differences_are_in_bits_per_byte_and_keep_the_seeds_apart() -> None:
    found = report(control=0.0, default=-10.0, paper=0.0).against_control[DEFAULT.name][OVERALL]

    assert found.pooled.difference == pytest.approx(-0.1 / np.log(2), rel=0.02)
    assert found.of_seeds == pytest.approx([-0.1 / np.log(2)] * 3, rel=0.02)


def test_documents_a_model_cannot_score_are_left_out_for_all() -> None:
    with_hole = [dict(scores(seed, control=0.0, default=-1.0, paper=0.0)) for seed in range(3)]
    with_hole[1]["paper"][[3, 5]] = np.nan

    found = build_report(
        {"name": "", "description": ""},
        DOCUMENTS,
        with_hole,
        fused=[DEFAULT.name, PAPER.name],
        control=CONTROL,
        default=DEFAULT.name,
        trained_on=(),
    )

    assert found.num_documents == {OVERALL: 58, "code": 28, "prose": 30}
    assert "| default |" in markdown(found)


def test_documents_that_were_trained_on_are_left_out() -> None:
    seen = {"".join(DOCUMENTS[0].windows)}
    documents = [replace(each, windows=(f"{each.number} " * 30,)) for each in DOCUMENTS[1:]]

    found = report_on([DOCUMENTS[0], *documents], trained_on=seen, control=0.0, default=-1.0, paper=0.0)

    assert found.num_documents[OVERALL] == len(DOCUMENTS) - 1


def test_modules_belong_to_one_part() -> None:
    parts: tuple[texts.Part, ...] = ("pretraining", "fusion", "held_out")
    counts = [len(texts.documents(part, LIBRARIES)) for part in parts]

    assert all(counts)
    assert len(texts.trained_on(LIBRARIES)) <= counts[0] + counts[1]


def test_every_choice_between_the_presets_is_varied() -> None:
    groups = {variant.group for variant in SINGLE_CHANGES}
    assert groups >= {"tail", "tokens", "vocabulary", "unaligned", "blending", "granularity", "clm_weight"}
    for variant in (DEFAULT, PAPER, *SINGLE_CHANGES):
        assert variant.strategy is not None
    assert {regime.num_epochs > 1 for regime in FULL.regimes} == {True, False}


@pytest.mark.filterwarnings("ignore")
def test_it_runs_from_text_to_tables_and_goes_on_where_it_was(tmp_path: Path) -> None:
    arguments = ["--quick", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "quality.json")]

    assert main(arguments) == 0
    first = json.loads((tmp_path / "quality.json").read_text())
    kept = sorted((tmp_path / "cache" / "runs").rglob("*.npy"))
    assert main(arguments) == 0

    assert json.loads((tmp_path / "quality.json").read_text())["regimes"] == first["regimes"]
    assert sorted((tmp_path / "cache" / "runs").rglob("*.npy")) == kept
    found = first["regimes"][0]
    assert set(found["bits_per_byte"]) == {"target", "code", "prose", CONTROL, DEFAULT.name, PAPER.name} | {
        SINGLE_CHANGES[0].name
    }
    assert found["against_control"][DEFAULT.name][OVERALL]["low"] is not None
