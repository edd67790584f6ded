"""The benchmark of large files runs, and a file larger than the limit stays below it."""

import sys
from pathlib import Path

import pytest

from benchmarks.big_file import main


def test_a_file_passes_through_the_api_without_filling_its_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["--gigabytes", "0.2", "--folder", str(tmp_path), "--limit-mb", "100"]
    monkeypatch.setattr(sys, "argv", ["big_file", *words])

    assert main() == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["upload", "download", "8 ranges at a time"]
