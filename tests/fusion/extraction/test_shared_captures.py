"""No model runs twice over the same text, in whichever job, and what is taken over is what was captured."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fusion.corpus.stage import run as prepare
from fusion.errors import ModelUnusable
from fusion.extraction import model_run
from fusion.extraction.stage import run as extract
from fusion.io.capture_packs import pack_folders
from fusion.io.manifest import read_manifest
from fusion.io.stage_inputs import StageInputs
from fusion.io.windows import read_windows, windows_path
from fusion.llms.loading import load_model
from fusion.progress import NullProgress
from fusion.spec_text import validate_spec
from tests.fusion.extraction.test_stage import SAMPLED, Job, Recorder
from tests.support.tiny_jobs import save_models, tiny_spec
from tests.support.tiny_models import save_tiny_checkpoint

WORDS = [
    "fusion",
    "of",
    "models",
    "reads",
    "one",
    "text",
    "and",
    "each",
    "of",
    "them",
    "predicts",
    "what",
    "comes",
    "next",
    "in",
    "it",
]


@pytest.fixture
def forward_passes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Forward passes of every model that extraction loads, by the name of its folder."""
    passes: Counter[str] = Counter()

    def counting(folder: Path, **options: Any) -> Any:
        model = load_model(folder, **options)
        model.base_model.register_forward_hook(lambda *_: passes.update([folder.name]))
        return model

    monkeypatch.setattr(model_run, "load_model", counting)
    return passes


def write_long_documents(path: Path) -> Path:
    """Documents of several windows each."""
    lines = []
    for number in range(12):
        words = " ".join(WORDS[(number * 7 + word * word) % len(WORDS)] for word in range(60 + 30 * number))
        lines.append(json.dumps({"text": f"{number}: {words}.\n", "domain": "prose"}))
    path.write_text("\n".join(lines) + "\n")
    return path


def run_sources(spec: dict[str, Any], folder: Path, *, cache: Path) -> dict[str, dict[str, Any]]:
    """`prepare`, then `extract` of both sources; the figures."""
    checked = validate_spec(spec)
    prepare(checked, StageInputs(), folder / "prepare", progress=NullProgress())
    return {
        name: extract(
            checked,
            StageInputs(subject=name, steps={"prepare": folder / "prepare"}, capture_cache=cache),
            folder / name,
            progress=NullProgress(),
        ).figures
        for name in ("mpt", "prose")
    }


def test_a_second_job_with_another_target_runs_no_source(
    tmp_path: Path, forward_passes: Counter[str]
) -> None:
    """The targets differ in tokenizer, architecture and weights; shards are of another size, too."""
    models = save_models(tmp_path / "models")
    other = save_tiny_checkpoint(tmp_path / "models" / "other", family="gpt2", tokenizer="mpt_like", seed=9)
    first = tiny_spec(models, write_long_documents(tmp_path / "corpus.jsonl"))
    first["corpus"]["max_tokens_per_window"] = 256
    second = {**first, "target": {"model": {"path": str(other)}}}
    second["corpus"] = {**first["corpus"], "windows_per_shard": 5}

    run_sources(first, tmp_path / "first", cache=tmp_path / "cache")
    assert set(forward_passes) == {"mpt", "prose"}
    forward_passes.clear()
    figures = run_sources(second, tmp_path / "second", cache=tmp_path / "cache")

    texts = [w.text for w in read_windows(windows_path(tmp_path / "second" / "prepare", "train", 0))]
    assert any(not text[0].isdigit() for text in texts), "no document was cut"
    assert not forward_passes
    for name in ("mpt", "prose"):
        assert figures[name]["cached_tokens"] == figures[name]["tokens"] > 1000


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return Job(tmp_path_factory.mktemp("job"), strategy=SAMPLED)


def test_what_is_assembled_equals_what_was_captured(
    job: Job, tmp_path: Path, forward_passes: Counter[str]
) -> None:
    job.extract(tmp_path / "plain")
    job.extract(tmp_path / "first", cache=tmp_path / "cache")
    forward_passes.clear()
    report = job.extract(tmp_path / "second", cache=tmp_path / "cache")

    assert not forward_passes
    assert report.figures["cached_tokens"] == report.figures["tokens"]
    manifests = [read_manifest(tmp_path / name) for name in ("plain", "first", "second")]
    assert manifests[0] == manifests[1] == manifests[2]


def test_only_what_changed_is_captured_again(job: Job, tmp_path: Path) -> None:
    job.extract(tmp_path / "first", cache=tmp_path / "cache")
    corpus = Path(job.spec.corpus.files[0].path or "")
    lines = corpus.read_text().splitlines()
    changed = tmp_path / "changed.jsonl"
    changed.write_text(
        "\n".join([json.dumps({"text": "A new document.\n", "domain": "prose"}), *lines[1:]]) + "\n"
    )
    spec = job.spec.model_dump(mode="json")
    spec["corpus"]["files"] = [{"path": str(changed)}]

    figures = run_sources(spec, tmp_path / "second", cache=tmp_path / "cache")["mpt"]

    assert 0 < figures["tokens"] - figures["cached_tokens"] < figures["tokens"] / 8


def test_a_damaged_window_is_captured_again_with_a_note(
    job: Job, tmp_path: Path, forward_passes: Counter[str]
) -> None:
    job.extract(tmp_path / "first", cache=tmp_path / "cache")
    path = pack_folders(tmp_path / "cache")[0] / "windows.bin"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)
    forward_passes.clear()
    progress = Recorder()

    job.extract(tmp_path / "second", cache=tmp_path / "cache", progress=progress)

    assert sum(forward_passes.values()) > 0
    assert [note for note in progress.notes if "damage in the capture cache" in note]
    rows = [read_manifest(tmp_path / name).meta["num_rows"] for name in ("first", "second")]
    assert rows[0] == rows[1]


def test_a_cache_that_cannot_be_written_costs_a_note(job: Job, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    progress = Recorder()

    job.extract(tmp_path / "out", cache=tmp_path / "cache", progress=progress)
    job.extract(tmp_path / "plain")

    assert len([note for note in progress.notes if "cannot be written" in note]) == 1
    assert read_manifest(tmp_path / "out") == read_manifest(tmp_path / "plain")


def test_an_interrupted_stage_goes_on_from_its_shards_without_the_cache_it_had(
    job: Job, tmp_path: Path
) -> None:
    """As on another machine: the finished shards are there, the cache is not; they fill the new one."""
    with pytest.raises(KeyboardInterrupt):
        job.extract(tmp_path / "out", cache=tmp_path / "a", progress=Recorder(stop_after_parts=2))
    assert len(list(tmp_path.glob("out/shard-*/manifest.json"))) >= 2

    job.extract(tmp_path / "out", cache=tmp_path / "b")
    job.extract(tmp_path / "plain")

    assert read_manifest(tmp_path / "out") == read_manifest(tmp_path / "plain")
    assert job.extract(tmp_path / "again", cache=tmp_path / "b").figures["cached_tokens"] > 0
    assert read_manifest(tmp_path / "again") == read_manifest(tmp_path / "plain")


def test_equal_windows_of_a_job_are_read_once(tmp_path: Path) -> None:
    job = Job(tmp_path)
    corpus = Path(job.spec.corpus.files[0].path or "")
    corpus.write_text(corpus.read_text() * 3)
    job.prepare()

    figures = job.extract(tmp_path / "out", cache=tmp_path / "cache").figures

    assert figures["tokens"] == pytest.approx(3 * (figures["tokens"] - figures["cached_tokens"]))


def test_another_seed_shares_what_is_not_drawn(job: Job, tmp_path: Path) -> None:
    spec = {**job.spec.model_dump(mode="json"), "strategy": {"objective": {"tail": "bucket"}}}
    run_sources(spec, tmp_path / "one", cache=tmp_path / "cache")

    figures = run_sources({**spec, "seed": 5}, tmp_path / "two", cache=tmp_path / "cache")["mpt"]
    drawn = run_sources({**spec, "strategy": SAMPLED}, tmp_path / "three", cache=tmp_path / "cache")["mpt"]

    assert figures["cached_tokens"] == figures["tokens"]
    assert drawn["cached_tokens"] == 0


def test_weights_that_changed_since_prepare_never_enter_the_cache(tmp_path: Path) -> None:
    job = Job(tmp_path)
    save_tiny_checkpoint(job.models["mpt"], family="mpt", tokenizer="mpt_like", seed=77)

    with pytest.raises(ModelUnusable) as caught:
        job.extract(tmp_path / "out", cache=tmp_path / "cache")

    assert caught.value.code == "model_changed"
    assert not (tmp_path / "cache").exists()
