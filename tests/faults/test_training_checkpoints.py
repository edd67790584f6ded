"""A real training dies at every file of a checkpoint, and the weights come out bit for bit the same.

Every death is followed by a new process that goes on from what it finds, as another attempt does.
"""

import os
import signal
from pathlib import Path

import pytest

from tests.fusion.training.runs import TrainingCase
from tests.fusion.training.test_killed import finish, start

NUM_STEPS = 6
DEATHS = (
    # Inside the first checkpoint, file by file; then around its rename; then inside a later one.
    "checkpoint.file_written",
    "checkpoint.file_written after 1",
    "file.written",
    "file.renamed after 1",
    "folder.written",
    "folder.replaced after 1",
    "part.finished after 1",
    "checkpoint.file_written after 5",
    "stage.finished",
)


@pytest.mark.timeout(600)
def test_no_death_changes_a_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    failpoints = tmp_path / "failpoints"
    failpoints.mkdir()
    case = TrainingCase(tmp_path, num_epochs=2, checkpoint_every_steps=1, max_steps=NUM_STEPS)
    finish(*start(case, tmp_path / "undisturbed"))
    monkeypatch.setenv("FAILPOINTS_DIR", str(failpoints))

    for place in DEATHS:
        name, _, passes = place.partition(" after ")
        (failpoints / name).write_text(f"kill after {passes or 0}")
        process, reader = start(case, tmp_path / "killed")
        with os.fdopen(reader, "rb") as events:
            events.read()
        assert process.wait() == -signal.SIGKILL, place
    finish(*start(case, tmp_path / "killed"))

    assert case.weights("killed") == case.weights("undisturbed")
    records = [(tmp_path / name / "training.json").read_bytes() for name in ("killed", "undisturbed")]
    assert records[0] == records[1]
