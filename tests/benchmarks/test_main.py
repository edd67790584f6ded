"""Every row runs on tiny sizes, and what is written about it is complete."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.__main__ import GROUPS, main
from benchmarks.report import table
from benchmarks.rows import Row, Verdict
from benchmarks.sizes import FULL, QUICK
from benchmarks.texts import documents

ROWS_OF_GROUP = {
    "extraction": 7,
    "vocabulary": 6,
    "alignment": 5,
    "scale": 7,
    "training": 6,
    "whole_job": 2,
    "api_import": 2,
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.mark.parametrize("group", [group for group in GROUPS if group != "gpu"])
def test_a_group_runs_and_writes_its_rows(group: str, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "results" / "latest.json"

    code = main(["--quick", "--only", group, "--cache", str(cache), "--out", str(out)])

    assert code == 0
    data = json.loads(out.read_text())
    assert data["sizes_name"] == "quick"
    assert data["sizes"]["vocabulary_size"] == QUICK.vocabulary_size
    assert data["machine"]["cores"] >= 1
    assert len(data["rows"]) == ROWS_OF_GROUP[group]
    for row in data["rows"]:
        assert row["verdict"] in (Verdict.NOT_JUDGED, Verdict.NO_TARGET)
        assert (row["ratio"] is None) == (row["target_ratio"] is None)
        if is_difference(row):
            continue
        assert row["measured"] >= 0
        if row["ratio"] is not None:
            assert row["ratio"] > 0
            assert row["compared"] > 0


def is_difference(row: dict[str, Any]) -> bool:
    """Of two measurements, which may have either sign where the sizes differ by less than the noise."""
    return row["name"].startswith("scale.") and row["name"].endswith(".time")


def test_a_machine_without_a_gpu_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    code = main(["--only", "gpu", "--cache", str(cache), "--out", str(tmp_path / "out.json")])

    assert code == 0
    assert "gpu: skipped, torch finds no CUDA device" in capsys.readouterr().out


def test_a_missed_target_is_said_aloud_and_fails(
    monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = Row(name="slow", work="little", unit="s", measured=9.0, ratio=0.5, target_ratio=3.0, details={})
    monkeypatch.setattr("benchmarks.__main__.FULL", QUICK)
    monkeypatch.setitem(GROUPS, "whole_job", lambda bench: iter([slow]))

    code = main(["--only", "whole_job", "--cache", str(cache), "--out", str(tmp_path / "out.json")])

    assert code == 1
    assert "TARGET MISSED slow" in capsys.readouterr().out


def test_the_table_shows_comparison_and_basis() -> None:
    console = Console(width=140, record=True, file=None, quiet=False)
    row = Row(
        name="collate",
        work="one block",
        unit="s",
        measured=0.01,
        compared=1.28,
        compared_with="the reference",
        basis="the reference's own figure on similar work",
        ratio=128.0,
        target_ratio=20.0,
        details={},
    )

    console.print(table([row]))

    text = console.export_text()
    assert all(word in text for word in ("collate", "one block", "own figure", "128", "≥ 20", "ok"))


def test_documents_are_spread_up_to_the_longest() -> None:
    lengths = [
        len(text) for text in documents(FULL.num_documents, max_characters=FULL.max_document_characters)
    ]

    assert len(lengths) == FULL.num_documents
    assert max(lengths) == FULL.max_document_characters
    assert 160_000 < sum(lengths) < 180_000
