"""A whole job on this machine, without a service."""

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fusion.errors import FusionError, SpecInvalid
from fusion.io.manifest import verify_manifest
from fusion.pipeline import MODULE_OF_STAGE, run_local, step_folder
from fusion.plan import STAGES, PlannedStep, plan_steps
from fusion.progress import NullProgress, Progress
from fusion.spec_text import validate_spec
from tests.support.tiny_jobs import save_models, tiny_spec, write_corpus


@contextmanager
def unwatched(step: PlannedStep) -> Iterator[Progress]:
    yield NullProgress()


def test_every_stage_has_a_module_that_runs_it() -> None:
    assert set(MODULE_OF_STAGE) == set(STAGES)
    assert all(callable(importlib.import_module(name).run) for name in MODULE_OF_STAGE.values())


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A spec and the folder where it has run once."""
    folder = tmp_path_factory.mktemp("job")
    spec = tiny_spec(save_models(folder / "models"), write_corpus(folder / "corpus.jsonl"))
    run_local(validate_spec(spec), folder / "run", progress_of=unwatched)
    return spec, folder / "run"


def test_the_fused_model_loads_and_generates(job: tuple[dict[str, Any], Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(job[1] / "model")
    tokenizer = AutoTokenizer.from_pretrained(job[1] / "model")
    ids = tokenizer("def add", return_tensors="pt")["input_ids"]
    output = model.generate(ids, max_new_tokens=4, do_sample=False)
    assert output.shape[1] > ids.shape[1]
    assert all(torch.isfinite(weight).all() for weight in model.parameters())


def test_the_model_folder_says_what_it_is(job: tuple[dict[str, Any], Path]) -> None:
    manifest = verify_manifest(job[1] / "model")
    names = {file.path for file in manifest.files}
    expected = {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "README.md",
        "report.json",
        "fusion_spec.json",
    }
    assert expected <= names
    assert "generation_config.json" in names


def test_the_report_compares_everybody_per_domain(job: tuple[dict[str, Any], Path]) -> None:
    report = json.loads((job[1] / "model" / "report.json").read_text())
    text = json.dumps(report)
    for name in ("target", "control", "fused", "mpt", "prose", "code", "bits_per_byte"):
        assert f'"{name}"' in text


def test_a_finished_run_runs_nothing_again(job: tuple[dict[str, Any], Path]) -> None:
    spec, out = job
    notes: list[tuple[str, str]] = []

    class Notes(NullProgress):
        def __init__(self, name: str) -> None:
            self.name = name

        def note(self, message: str, **details: Any) -> None:
            notes.append((self.name, message))

    @contextmanager
    def noted(step: PlannedStep) -> Iterator[Progress]:
        yield Notes(step.name)

    run_local(validate_spec(spec), out, progress_of=noted)
    assert notes == [(step.name, "already done") for step in plan_steps(validate_spec(spec))]


def test_the_same_job_gives_the_same_bytes(job: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    spec, first = job
    run_local(validate_spec(spec), tmp_path / "again", progress_of=unwatched)
    weights = [
        (folder / "model" / "model.safetensors").read_bytes() for folder in (first, tmp_path / "again")
    ]
    assert weights[0] == weights[1]


def test_a_run_stopped_in_training_continues_to_the_same_bytes(
    job: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    spec, first = job

    class Stop(Exception):
        """Stands for whatever ends a process."""

    class StopsAtFirstCheckpoint(NullProgress):
        def part_finished(self, path: Path) -> None:
            if path.parent.name == "checkpoints":
                raise Stop

    @contextmanager
    def stopping(step: PlannedStep) -> Iterator[Progress]:
        yield StopsAtFirstCheckpoint()

    with pytest.raises(Stop):
        run_local(validate_spec(spec), tmp_path / "run", progress_of=stopping)
    assert not (step_folder(tmp_path / "run", "train.fused") / "manifest.json").exists()
    run_local(validate_spec(spec), tmp_path / "run", progress_of=unwatched)
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (first, tmp_path / "run")]
    assert weights[0] == weights[1]


def test_paper_preset_runs_end_to_end(job: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    spec = {
        **job[0],
        "strategy": {"preset": "paper"},
        "evaluation": {"control": False, "bootstrap_resamples": 100},
    }
    result = run_local(validate_spec(spec), tmp_path / "run", progress_of=unwatched)
    assert (result.model / "model.safetensors").is_file()


def test_a_folder_belongs_to_one_spec(job: tuple[dict[str, Any], Path]) -> None:
    other = validate_spec({**job[0], "seed": 5})
    with pytest.raises(SpecInvalid, match="run of another spec"):
        run_local(other, job[1], progress_of=unwatched)


def test_references_into_the_service_are_refused(job: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    spec = validate_spec({**job[0], "corpus": {"files": [{"file_id": "file-1"}]}})
    with pytest.raises(SpecInvalid, match="no service") as caught:
        run_local(spec, tmp_path / "run", progress_of=unwatched)
    assert caught.value.pointer == "/corpus/files/0/file_id"


def test_a_user_mistake_keeps_what_was_finished(job: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    spec = {**job[0], "target": {"model": {"path": str(tmp_path / "nothing")}}}
    with pytest.raises(FusionError) as caught:
        run_local(validate_spec(spec), tmp_path / "run", progress_of=unwatched)
    assert caught.value.category == "user"
    assert caught.value.code == "model_not_found"
