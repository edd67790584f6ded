"""Speakers are followed while they predict unseen text better than the student."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fusion.training.following import Following, rows_followed, sums_by_rival
from tests.fusion.training.lessons import make_lessons, write_align_folder
from tests.fusion.training.runs import RecordingProgress, TrainingCase

RIVALS = torch.tensor([0, 1, -1, -2, 1])


def test_everybody_is_followed_until_measured() -> None:
    assert Following.start(2, margin=0.0).followed == [True, True, True]


def test_who_is_worse_is_left_and_who_is_better_again_is_followed_again() -> None:
    following = Following.start(1, margin=0.0)
    following.add([10.0, 0.0], [11.0, 0.0])
    assert following.followed == [False, True]
    following.add([10.0, 0.0], [8.0, 0.0])
    assert following.followed == [True, True]


def test_a_little_worse_is_good_enough() -> None:
    following = Following.start(1, margin=0.1)
    following.add([10.0, 0.0], [10.9, 0.0])
    assert following.followed == [True, True]
    following.add([10.0, 0.0], [11.3, 0.0])
    assert following.followed == [False, True]


def test_what_is_long_past_counts_little() -> None:
    following = Following.start(1, margin=0.0)
    following.add([1000.0, 0.0], [0.0, 0.0])
    for _ in range(80):
        following.add([10.0, 0.0], [11.0, 0.0])
    assert following.followed == [False, True]


def test_rows_without_a_rival_keep_what_is_said_there() -> None:
    assert rows_followed(RIVALS, [True, False, False]).tolist() == [True, False, True, False, False]


def test_sums_go_to_the_rival_of_the_row() -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    assert sums_by_rival(values, RIVALS, num_slots=3).tolist() == [1.0, 18.0, 8.0]


def records(case: TrainingCase, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((case.folder / name / "training.json").read_text())["curve"]
    return found


def test_a_hopeless_speaker_is_left_after_the_first_step(tmp_path: Path) -> None:
    case = TrainingCase(tmp_path, num_epochs=2)
    write_align_folder(case.align, [make_lessons([12, 7, 9, 12, 5], rival_nats=50.0)])

    case.run("fused", progress=RecordingProgress())
    curve = records(case, "fused")

    assert "fusion_loss" in curve[0]
    assert all("fusion_loss" not in record for record in curve[1:])
    # Nobody is followed, so every row counts in full: from then on it is plain training.
    assert all(record["loss"] == record["clm_loss"] for record in curve[1:])


def test_a_good_speaker_is_followed_to_the_end(tmp_path: Path) -> None:
    case = TrainingCase(tmp_path, num_epochs=2)
    write_align_folder(case.align, [make_lessons([12, 7, 9, 12, 5], rival_nats=0.5)])

    case.run("fused", progress=RecordingProgress())

    assert all("fusion_loss" in record for record in records(case, "fused"))


@pytest.mark.parametrize(("follow", "found"), [("while_better", False), ("always", True)])
def test_the_record_says_who_is_followed(tmp_path: Path, follow: str, found: bool) -> None:
    case = TrainingCase(tmp_path)
    write_align_folder(case.align, [make_lessons([12, 7, 9, 12, 5], rival_nats=50.0)])
    objective = case.spec.strategy.objective.model_copy(update={"follow": follow})
    spec = case.spec.model_copy(
        update={"strategy": case.spec.strategy.model_copy(update={"objective": objective})}
    )

    case.run("fused", spec=spec)
    case.run("control", subject="control", spec=spec)

    fused, control = (
        json.loads((case.folder / name / "training.json").read_text())["followed"]
        for name in ("fused", "control")
    )
    # The hand-made lessons know one speaker: the first, which is the target.
    assert fused == {"target": found, "mpt": True, "mixtures": True}
    assert control == {}
