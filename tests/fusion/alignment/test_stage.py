from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from fusion.alignment.stage import run
from fusion.errors import InfrastructureError, ModelUnusable
from fusion.io.atomic import read_json, write_json
from fusion.io.captures import Capture, shard_folder, write_capture
from fusion.io.lessons import LESSONS_KIND, read_lessons
from fusion.io.manifest import read_manifest, verify_manifest
from fusion.io.stage_inputs import StageInputs
from fusion.progress import NullProgress
from fusion.spec import FusionSpec
from tests.fusion.alignment.captures_by_hand import (
    TEXTS,
    encoder_of,
    random_capture,
    save_inputs,
    spec_of,
    windows_of,
)

TOKENIZERS = {"target": "llama_like", "mpt": "mpt_like", "open": "openllama_like"}
SHARDS = [windows_of(TEXTS), windows_of(TEXTS[:1])]


@dataclass
class RecordedProgress(NullProgress):
    parts: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    updates: list[tuple[float, float, int | None]] = field(default_factory=list)

    def update(self, done: float, total: float, *, unit: str, tokens: int | None = None) -> None:
        self.updates.append((done, total, tokens))

    def part_finished(self, path: Path) -> None:
        self.parts.append(path)

    def note(self, message: str, **details: Any) -> None:
        self.notes.append(message)


def prepare(root: Path, **strategy: Any) -> tuple[FusionSpec, StageInputs]:
    spec = spec_of(sources=("mpt", "open"), strategy=strategy)
    num_samples = spec.strategy.num_tail_samples
    captures = {
        name: [
            random_capture(windows, encoder_of(TOKENIZERS[name]), seed=number, num_samples=num_samples)
            for number, windows in enumerate(SHARDS)
        ]
        for name in spec.captured_names
    }
    return spec, save_inputs(root, SHARDS, captures, TOKENIZERS)


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_every_shard_becomes_lessons(tmp_path: Path, preset: str) -> None:
    spec, inputs = prepare(tmp_path, preset=preset)
    progress = RecordedProgress()

    report = run(spec, inputs, tmp_path / "out", progress=progress)

    manifest = verify_manifest(tmp_path / "out")
    lessons = [read_lessons(shard_folder(tmp_path / "out", shard)) for shard in (0, 1)]
    assert manifest.kind == LESSONS_KIND
    assert [each.num_windows for each in lessons] == [3, 1]
    assert manifest.meta["num_target_tokens"] == sum(each.num_tokens for each in lessons)
    assert progress.parts == [shard_folder(tmp_path / "out", shard) for shard in (0, 1)]
    assert progress.updates[-1] == (2.0, 2, manifest.meta["num_target_tokens"])
    assert report.figures["num_bytes"] == manifest.num_bytes


def test_figures_say_who_was_heard_and_who_won(tmp_path: Path) -> None:
    spec, inputs = prepare(tmp_path)

    figures = run(spec, inputs, tmp_path / "out", progress=NullProgress()).figures

    assert figures["aligned_share"]["target"] == 1.0
    assert 0.5 < figures["aligned_share"]["mpt"] < 1.0
    assert figures["mass_kept"]["open"] > 0.9
    assert sum(figures["won_share"].values()) + figures["masked_share"] == pytest.approx(1.0, abs=1e-5)
    assert figures["num_lossy_windows"] == {"target": 0, "mpt": 0, "open": 0}
    assert figures["tokens_per_second"] > 0


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    spec, inputs = prepare(tmp_path, blending={"rule": "avg_ce"})

    for name in ("first", "second"):
        run(spec, inputs, tmp_path / name, progress=NullProgress())

    first, second = (read_manifest(tmp_path / name) for name in ("first", "second"))
    assert first == second


def test_finished_shards_are_kept_and_damaged_ones_done_again(tmp_path: Path) -> None:
    spec, inputs = prepare(tmp_path)
    out_dir = tmp_path / "out"
    run(spec, inputs, out_dir, progress=NullProgress())
    whole = read_manifest(out_dir)
    (out_dir / "manifest.json").unlink()
    (shard_folder(out_dir, 1) / "lessons.safetensors").write_bytes(b"torn")
    progress = RecordedProgress()

    run(spec, inputs, out_dir, progress=progress)

    assert progress.parts == [shard_folder(out_dir, 1)]
    assert len(progress.notes) == 1
    assert read_manifest(out_dir) == whole


def test_a_finished_stage_is_not_done_again(tmp_path: Path) -> None:
    spec, inputs = prepare(tmp_path)
    run(spec, inputs, tmp_path / "out", progress=NullProgress())
    progress = RecordedProgress()

    run(spec, inputs, tmp_path / "out", progress=progress)

    assert progress.parts == []
    assert progress.updates == []


def spoil(inputs: StageInputs, capture: Capture) -> None:
    write_capture(shard_folder(inputs.steps["extract.mpt"], 0), capture, meta={})


def test_a_capture_of_another_corpus_is_refused(tmp_path: Path) -> None:
    spec, inputs = prepare(tmp_path)
    spoil(inputs, random_capture(SHARDS[1], encoder_of("mpt_like")))

    with pytest.raises(InfrastructureError, match="mpt has 1 windows in shard 0, the text has 3") as caught:
        run(spec, inputs, tmp_path / "out", progress=NullProgress())

    assert caught.value.code == "capture_mismatch"
    assert caught.value.hint is not None


def test_a_capture_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    spec, inputs = prepare(tmp_path)
    capture = random_capture(SHARDS[0], encoder_of("mpt_like"))
    top_ids = capture.top_ids.copy()
    top_ids[0, 0] = 1600
    spoil(inputs, replace(capture, top_ids=top_ids))

    with pytest.raises(InfrastructureError, match="mpt holds id 1600, its tokenizer has 1600"):
        run(spec, inputs, tmp_path / "out", progress=NullProgress())


def test_ids_without_a_row_in_the_targets_head_are_not_taught(tmp_path: Path) -> None:
    spec, inputs = prepare(tmp_path)
    path = inputs.steps["prepare"] / "models.json"
    write_json(path, read_json(path) | {"target": {"vocabulary_size": 700}})

    run(spec, inputs, tmp_path / "out", progress=NullProgress())

    entry_ids = read_lessons(shard_folder(tmp_path / "out", 0)).entry_ids
    assert len(entry_ids) > 0
    assert entry_ids.max() < 700


def test_a_target_without_a_start_token_is_refused_with_a_way_out(tmp_path: Path) -> None:
    spec, inputs = prepare(tmp_path)
    path = inputs.models["model-target"] / "tokenizer_config.json"
    config = {key: value for key, value in read_json(path).items() if key not in ("bos_token", "eos_token")}
    write_json(path, config)

    with pytest.raises(ModelUnusable, match="neither BOS nor EOS") as caught:
        run(spec, inputs, tmp_path / "out", progress=NullProgress())

    assert caught.value.hint is not None


def test_a_window_that_is_lossy_for_the_target_has_no_lesson(tmp_path: Path) -> None:
    spec, inputs = prepare(tmp_path)
    root = inputs.steps["extract.target"]
    capture = random_capture(SHARDS[1], encoder_of("llama_like"))
    starts = capture.window_starts.copy()
    starts[1] = 0
    empty = {name: getattr(capture, name)[:0] for name in Capture.__slots__ if name != "window_starts"}
    write_capture(shard_folder(root, 1), Capture(window_starts=starts, **empty), meta={})

    figures = run(spec, inputs, tmp_path / "out", progress=NullProgress()).figures

    assert read_lessons(shard_folder(tmp_path / "out", 1)).num_tokens == 0
    assert figures["num_lossy_windows"] == {"target": 1, "mpt": 0, "open": 0}
    assert figures["num_sequences"] == 3


def test_the_target_is_read_for_its_score_without_taking_part(tmp_path: Path) -> None:
    spec, inputs = prepare(tmp_path, target_as_source=False, blending={"skip_if_target_better": True})

    figures = run(spec, inputs, tmp_path / "out", progress=NullProgress()).figures

    assert set(figures["won_share"]) == {"mpt", "open"}
    assert figures["num_lossy_windows"] == {"target": 0, "mpt": 0, "open": 0}
