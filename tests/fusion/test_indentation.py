"""Fusing code does not teach a target to break its indentation."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion.alignment import stage as align_stage
from fusion.io.captures import shard_folder
from fusion.io.lessons import Lessons, read_lessons
from fusion.io.stage_inputs import StageInputs
from fusion.llms.loading import load_tokenizer
from fusion.llms.token_bytes import TextEncoder
from fusion.pipeline import run_local, step_folder
from fusion.plan import PlannedStep
from fusion.progress import NullProgress, Progress
from fusion.spec import FusionSpec
from fusion.spec_text import validate_spec
from tests.fusion.indented_code import (
    four_space_tokenizer,
    indentation_accuracy,
    run_reading_tokenizer,
    train_checkpoint,
    write_code,
)

SOURCE_READ = [write_code(number) for number in range(1000, 1400)]
FUSION_READ = [write_code(number) for number in range(2000, 2160)]
UNSEEN = [write_code(number) for number in range(3000, 3060)]


@contextmanager
def unwatched(step: PlannedStep) -> Iterator[Progress]:
    yield NullProgress()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[FusionSpec, Path]:
    """A code job with the default guard, run to the end: the source knows code well, the target a little."""
    folder = tmp_path_factory.mktemp("indentation")
    source = train_checkpoint(
        folder / "source", run_reading_tokenizer(SOURCE_READ), SOURCE_READ, num_steps=120, seed=1
    )
    target = train_checkpoint(folder / "target", four_space_tokenizer(), SOURCE_READ, num_steps=40, seed=2)
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in FUSION_READ))
    spec = spec_of(source, target, corpus)
    run_local(spec, folder / "run", progress_of=unwatched)
    return spec, folder / "run"


def spec_of(source: Path, target: Path, corpus: Path) -> FusionSpec:
    return validate_spec(
        {
            "api_version": "fusion/v1",
            "sources": [{"name": "source", "model": {"path": str(source)}}],
            "target": {"model": {"path": str(target)}},
            "corpus": {"files": [{"path": str(corpus)}], "max_tokens_per_window": 200},
            "strategy": {"target_as_source": False, "objective": {"clm_weight": 0.5}},
            "training": {"num_epochs": 2, "sequences_per_step": 8, "learning_rate": 1e-3},
            "evaluation": {"bootstrap_resamples": 100},
        }
    )


def lessons_with(job: tuple[FusionSpec, Path], folder: Path, **vocabulary: Any) -> Lessons:
    """The lessons of the same captures under another guard."""
    spec, run = job
    data = spec.model_dump(mode="json")
    data["strategy"]["vocabulary"] |= vocabulary
    inputs = StageInputs(steps={name: step_folder(run, name) for name in ("prepare", "extract.source")})
    folder.mkdir()
    align_stage.run(validate_spec(data), inputs, folder, progress=NullProgress())
    return read_lessons(shard_folder(folder, 0))


def indented_rows(lessons: Lessons, encoder: TextEncoder) -> np.ndarray:
    """Rows after a line break whose next token is a run of spaces."""
    spelled = [encoder.piece_bytes[token_id] for token_id in lessons.token_ids.tolist()]
    return np.array(
        [row for row in range(len(spelled) - 1) if spelled[row] == b"\n" and spelled[row + 1][:2] == b"  "]
    )


def mass_on_shorter_runs(lessons: Lessons, encoder: TextEncoder, rows: np.ndarray) -> np.ndarray:
    """What each row teaches of runs of spaces shorter than the one that follows."""
    lengths = np.array([len(data) if data.isspace() else 0 for data in encoder.piece_bytes])
    found = []
    for row in rows.tolist():
        span = slice(*lessons.row_starts[row : row + 2].tolist())
        taught = lengths[lessons.entry_ids[span]]
        shorter = (taught > 0) & (taught < lengths[lessons.token_ids[row + 1]])
        found.append(lessons.entry_weights[span][shorter].sum(dtype=np.float64))
    return np.array(found)


def single_spaces(lessons: Lessons, encoder: TextEncoder) -> int:
    return int((lessons.entry_ids == encoder.piece_bytes.index(b" ")).sum())


def test_the_source_reads_runs_that_the_target_lacks(job: tuple[FusionSpec, Path]) -> None:
    source, target = (
        TextEncoder(load_tokenizer(Path(ref.path)))
        for ref in (job[0].sources[0].model, job[0].target.model)
        if ref.path is not None
    )

    runs = {b" " * 3, b" " * 7}
    assert runs <= set(source.piece_bytes)
    assert not runs & set(target.piece_bytes)
    assert {b" ", b" " * 4, b" " * 8} <= set(target.piece_bytes)


def test_without_the_guard_single_spaces_would_be_taught(
    job: tuple[FusionSpec, Path], tmp_path: Path
) -> None:
    encoder = TextEncoder(load_tokenizer(Path(str(job[0].target.model.path))))
    guarded = read_lessons(shard_folder(step_folder(job[1], "align"), 0))

    unguarded = lessons_with(job, tmp_path / "unguarded", max_collapsed_whitespace=1.0)

    rows = indented_rows(unguarded, encoder)
    assert len(rows) > 300
    wrongly_taught = mass_on_shorter_runs(unguarded, encoder, rows)
    assert (wrongly_taught > 0.5).mean() > 0.8
    assert single_spaces(unguarded, encoder) > 300
    assert (np.diff(guarded.row_starts)[rows] == 0).mean() > 0.95
    assert mass_on_shorter_runs(guarded, encoder, rows).max() <= 0.5


def test_indentation_does_not_suffer(job: tuple[FusionSpec, Path]) -> None:
    trained = {role: step_folder(job[1], f"train.{role}") / "model" for role in ("fused", "control")}

    control, fused = (indentation_accuracy(trained[role], UNSEEN) for role in ("control", "fused"))

    assert control > 0.6
    assert fused >= control - 0.01
