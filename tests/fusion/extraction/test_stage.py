"""The stage `extract` as a whole: shards, resuming, figures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fusion.corpus.stage import run as prepare
from fusion.errors import ModelUnusable
from fusion.extraction.batch_budget import MAX_TOKENS
from fusion.extraction.stage import run
from fusion.io.captures import read_capture, shard_folder
from fusion.io.manifest import read_manifest, verify_manifest
from fusion.io.stage_inputs import StageInputs
from fusion.io.windows import list_shards, read_windows, windows_path
from fusion.progress import NullProgress, Progress, StageReport
from fusion.spec import FusionSpec
from fusion.spec_text import validate_spec
from tests.support.tiny_jobs import save_models, tiny_spec, write_corpus

SAMPLED = {"extraction": {"num_tail_samples": 3}, "objective": {"tail": "sampled"}}


class Job:
    """A prepared tiny job."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.models = save_models(folder / "models")
        data = tiny_spec(self.models, write_corpus(folder / "c.jsonl"), **changes)
        data["corpus"]["windows_per_shard"] = 5
        self.spec: FusionSpec = validate_spec(data)
        self.prepared = folder / "prepared"
        self.prepare()

    def prepare(self) -> None:
        prepare(self.spec, StageInputs(), self.prepared, progress=NullProgress())

    def extract(
        self,
        out_dir: Path,
        *,
        name: str = "mpt",
        progress: Progress | None = None,
        cache: Path | None = None,
    ) -> StageReport:
        inputs = StageInputs(subject=name, steps={"prepare": self.prepared}, capture_cache=cache)
        return run(self.spec, inputs, out_dir, progress=progress or NullProgress())


class Recorder(NullProgress):
    """Keeps what it is told; may stop the stage after some parts, like a lost worker."""

    def __init__(self, *, stop_after_parts: int | None = None) -> None:
        self.parts: list[str] = []
        self.updates: list[tuple[float, float, int | None]] = []
        self.notes: list[str] = []
        self._stop_after_parts = stop_after_parts

    def update(self, done: float, total: float, *, unit: str, tokens: int | None = None) -> None:
        self.updates.append((done, total, tokens))

    def part_finished(self, path: Path) -> None:
        self.parts.append(path.name)
        if len(self.parts) == self._stop_after_parts:
            raise KeyboardInterrupt

    def note(self, message: str, **details: Any) -> None:
        self.notes.append(message)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return Job(tmp_path_factory.mktemp("job"), strategy=SAMPLED)


def test_one_capture_per_shard_and_figures(job: Job, tmp_path: Path) -> None:
    progress = Recorder()

    report = job.extract(tmp_path, progress=progress)

    manifest = verify_manifest(tmp_path)
    shards = list_shards(job.prepared, "train")
    assert manifest.kind == "captures"
    assert progress.parts == [f"shard-{shard:05d}" for shard in shards]
    for shard in shards:
        windows = read_windows(windows_path(job.prepared, "train", shard))
        capture = read_capture(shard_folder(tmp_path, shard))
        last_rows = capture.window_starts[1:] - 1
        assert capture.ends[last_rows].tolist() == [len(w.text.encode()) for w in windows]
        assert capture.sample_ids.shape == (capture.num_rows, 3)
        assert not (capture.sample_ids[:, :, None] == capture.top_ids[:, None, :]).any()
    figures = report.figures
    assert figures["tokens"] == manifest.meta["num_rows"] == progress.updates[-1][2]
    assert figures["quarantined_rows"] == figures["lossy_windows"] == figures["reused_tokens"] == 0
    assert 0 <= figures["padding_fraction"] < 0.5
    assert figures["bytes_per_token"] < 100
    assert figures["peak_memory_bytes"] > 0
    assert progress.updates[-1][0] == progress.updates[-1][1]


def test_an_interrupted_stage_goes_on_and_gives_the_same_bytes(job: Job, tmp_path: Path) -> None:
    job.extract(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        job.extract(tmp_path / "resumed", progress=Recorder(stop_after_parts=2))
    progress = Recorder()

    report = job.extract(tmp_path / "resumed", progress=progress)

    assert read_manifest(tmp_path / "resumed") == read_manifest(tmp_path / "whole")
    assert not {"shard-00000", "shard-00001"} & set(progress.parts)
    assert report.figures["reused_tokens"] > 0


def test_finished_shards_need_no_model_any_more(tmp_path: Path) -> None:
    job = Job(tmp_path)
    before = job.extract(tmp_path / "out").figures["tokens"]
    (tmp_path / "out" / "manifest.json").unlink()
    (job.models["mpt"] / "model.safetensors").unlink()

    report = job.extract(tmp_path / "out")

    assert report.figures["reused_tokens"] == report.figures["tokens"] == before


def test_a_torn_shard_is_captured_again(job: Job, tmp_path: Path) -> None:
    job.extract(tmp_path)
    expected = read_manifest(tmp_path)
    (tmp_path / "shard-00001" / "capture.safetensors").write_bytes(b"torn")
    progress = Recorder()

    job.extract(tmp_path, progress=progress)

    assert progress.parts == ["shard-00001"]
    assert read_manifest(tmp_path) == expected


def test_shards_of_another_model_are_not_taken_over(job: Job, tmp_path: Path) -> None:
    job.extract(tmp_path, name="prose")
    progress = Recorder()

    job.extract(tmp_path, name="target", progress=progress)

    assert len(progress.parts) == len(list_shards(job.prepared, "train"))
    assert read_manifest(tmp_path).meta["model"] == "target"


def poison(folder: Path, tensor: str, row: int) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[tensor][row] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_rows_with_nan_are_set_aside_and_counted(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.extract(tmp_path / "healthy", name="prose")
    next_ids = read_capture(shard_folder(tmp_path / "healthy", 0)).next_ids
    ids, counts = np.unique(next_ids[next_ids > 2], return_counts=True)
    poison(job.models["prose"], "model.embed_tokens.weight", int(ids[counts.argmin()]))
    job.prepare()
    progress = Recorder()

    report = job.extract(tmp_path / "out", name="prose", progress=progress)

    assert 0 < report.figures["quarantined_rows"] < report.figures["tokens"]
    assert len(progress.notes) == 1
    assert "were not finite" in progress.notes[0]


def test_a_source_without_one_finite_row_is_refused(tmp_path: Path) -> None:
    job = Job(tmp_path)
    poison(job.models["prose"], "lm_head.weight", 5)
    job.prepare()

    with pytest.raises(ModelUnusable, match="'prose'") as caught:
        job.extract(tmp_path / "out", name="prose")

    assert caught.value.code == "source_not_finite"
    assert caught.value.pointer == "/sources/1/model"


def test_the_target_is_captured_like_a_source(job: Job, tmp_path: Path) -> None:
    report = job.extract(tmp_path, name="target")

    assert report.figures["dtype"] == ("bfloat16" if torch.cuda.is_available() else "float32")
    assert read_capture(shard_folder(tmp_path, 0)).top_ids.max() < 1500


class CrampedMemory:
    """A device with room for a few tokens; every token takes a kilobyte."""

    def free_bytes(self) -> int:
        return 300_000

    def peak_bytes(self, work: Callable[[], object]) -> int:
        work()
        return 128 << 10


def test_batches_are_as_large_as_the_free_memory_holds(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ample = job.extract(tmp_path / "ample").figures["max_tokens_per_batch"]
    monkeypatch.setattr("fusion.extraction.model_run.DeviceMemory", lambda device: CrampedMemory())

    cramped = job.extract(tmp_path / "cramped").figures["max_tokens_per_batch"]

    assert ample == MAX_TOKENS["cuda" if torch.cuda.is_available() else "cpu"]
    assert cramped == job.spec.corpus.max_tokens_per_window
    one, other = (read_capture(shard_folder(tmp_path / name, 0)) for name in ("ample", "cramped"))
    np.testing.assert_allclose(one.next_logprobs, other.next_logprobs, atol=1e-4)
