"""A whole job on this machine, without a service."""

import importlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from fusion.errors import SpecInvalid, UserError
from fusion.io.manifest import is_complete, verify_manifest
from fusion.pipeline import MODULE_OF_STAGE, ProgressOfStep, run_local, step_folder
from fusion.plan import STAGES, PlannedStep, plan_steps
from fusion.progress import NullProgress, Progress
from fusion.spec_text import validate_spec
from tests.support.tiny_jobs import save_models, tiny_spec, write_corpus


@contextmanager
def unwatched(step: PlannedStep) -> Iterator[Progress]:
    yield NullProgress()


def published_digest(run: Path) -> str:
    """Digest over every published file, proven against the bytes."""
    return verify_manifest(run / "model").digest


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


class Notes(NullProgress):
    """Adds what a step notes to a list shared by all steps."""

    def __init__(self, name: str, said: list[tuple[str, str]]) -> None:
        self.name = name
        self.said = said

    def note(self, message: str, **details: Any) -> None:
        self.said.append((self.name, message))


def noted_into(said: list[tuple[str, str]]) -> ProgressOfStep:
    @contextmanager
    def noted(step: PlannedStep) -> Iterator[Progress]:
        yield Notes(step.name, said)

    return noted


def test_a_finished_run_runs_nothing_again(job: tuple[dict[str, Any], Path]) -> None:
    spec, out = job
    notes: list[tuple[str, str]] = []
    run_local(validate_spec(spec), out, progress_of=noted_into(notes))
    assert notes == [(step.name, "already done") for step in plan_steps(validate_spec(spec))]


def test_the_same_job_gives_the_same_bytes(job: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    spec, first = job
    run_local(validate_spec(spec), tmp_path / "again", progress_of=unwatched)
    assert published_digest(tmp_path / "again") == published_digest(first)


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
    assert published_digest(tmp_path / "run") == published_digest(first)


def test_paper_preset_runs_end_to_end(job: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    spec = {
        **job[0],
        "strategy": {"preset": "paper"},
        "evaluation": {"control": False, "bootstrap_resamples": 100},
    }
    result = run_local(validate_spec(spec), tmp_path / "run", progress_of=unwatched)
    assert (result.model / "model.safetensors").is_file()


def test_without_a_fusion_term_the_fused_model_is_the_control(
    job: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    spec = {**job[0], "strategy": {"objective": {"clm_weight": 1.0}}}
    run_local(validate_spec(spec), tmp_path / "run", progress_of=unwatched)
    fused, control = (
        (step_folder(tmp_path / "run", f"train.{role}") / "model" / "model.safetensors").read_bytes()
        for role in ("fused", "control")
    )
    assert fused == control
    assert fused != (job[1] / "model" / "model.safetensors").read_bytes()


def test_a_sampled_tail_is_captured_and_trained_on(job: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    strategy = {"extraction": {"top_k": 4, "num_tail_samples": 8}, "objective": {"tail": "sampled"}}
    spec = {
        **job[0],
        "strategy": strategy,
        "evaluation": {"control": False, "bootstrap_resamples": 100},
    }
    result = run_local(validate_spec(spec), tmp_path / "run", progress_of=unwatched)
    training = json.loads((step_folder(tmp_path / "run", "train.fused") / "training.json").read_text())
    assert training["tail"] == "sampled"
    assert all(0 < point["fusion_loss"] < 100 for point in training["curve"])
    assert result.figures["extract.mpt"]["tokens"] > 0


def test_a_folder_belongs_to_one_spec(job: tuple[dict[str, Any], Path]) -> None:
    other = validate_spec({**job[0], "seed": 5})
    with pytest.raises(SpecInvalid, match="run of another spec"):
        run_local(other, job[1], progress_of=unwatched)


def test_references_into_the_service_are_refused(job: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    spec = validate_spec({**job[0], "corpus": {"files": [{"file_id": "file-1"}]}})
    with pytest.raises(SpecInvalid, match="no service") as caught:
        run_local(spec, tmp_path / "run", progress_of=unwatched)
    assert caught.value.pointer == "/corpus/files/0/file_id"


def test_a_user_mistake_keeps_what_was_finished(tmp_path: Path) -> None:
    models = save_models(tmp_path / "models")
    weights = load_file(models["prose"] / "model.safetensors")
    broken = {name: torch.full_like(tensor, math.nan) for name, tensor in weights.items()}
    save_file(broken, models["prose"] / "model.safetensors", metadata={"format": "pt"})
    spec = validate_spec(tiny_spec(models, write_corpus(tmp_path / "corpus.jsonl")))
    run, notes = tmp_path / "run", list[tuple[str, str]]()

    for _ in range(2):
        notes.clear()
        with pytest.raises(UserError, match="prose"):
            run_local(spec, run, progress_of=noted_into(notes))

    finished = [name for name, message in notes if message == "already done"]
    assert finished == ["prepare", "extract.target", "extract.mpt"]
    assert all(is_complete(step_folder(run, name)) for name in finished)
    assert not is_complete(step_folder(run, "extract.prose"))
