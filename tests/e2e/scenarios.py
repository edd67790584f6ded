"""What a job goes through, from REST to a loaded model. Each profile runs all of it."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.client import InvalidRequestError, Job
from fusion.io.manifest import verify_manifest
from tests.e2e.stacks import Stack
from tests.support.tiny_jobs import tiny_spec

STANDSTILL_SECONDS = 240.0
"""How long a job may show no progress; a busy machine may take minutes to start a stage."""
CANCEL_SECONDS = 15.0
# Long enough to be hit in the middle, short enough to wait for.
NUM_STEPS = 120
TRAINING = {
    "num_epochs": 400,
    "max_steps": NUM_STEPS,
    "sequences_per_step": 8,
    "learning_rate": 1e-3,
    "checkpoint_every_steps": 10,
    "log_every_steps": 1,
}


class JobScenarios:
    """Tests of one profile; the subclass has a fixture `stack`."""

    def test_a_broken_source_fails_with_a_way_out(self, stack: Stack, material: Path) -> None:
        broken = material / "broken"
        broken.mkdir(exist_ok=True)
        (broken / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
        (broken / "pytorch_model.bin").write_bytes(b"pickled")

        spec = spec_of(material, sources=[{"name": "broken", "model": {"path": str(broken)}}])
        *_, last = stack.client.watch(stack.client.submit(spec).id, poll_seconds=0.3)

        assert last.job.status == "failed"
        assert last.job.error is not None
        assert (last.job.error.code, last.job.error.category) == ("pickled_weights_only", "user")
        assert "broken" in last.job.error.message
        assert last.job.error.hint
        assert next(step.attempt for step in last.steps if step.name == "prepare") == 1

    def test_a_path_outside_the_allowed_roots_is_no_job(self, stack: Stack, material: Path) -> None:
        spec = spec_of(material, sources=[{"name": "outside", "model": {"path": "/etc"}}])

        with pytest.raises(InvalidRequestError) as caught:
            stack.client.submit(spec)

        assert [problem.pointer for problem in caught.value.errors] == ["/sources/0/model/path"]

    def test_a_job_survives_its_worker_and_gives_a_model(
        self, stack: Stack, material: Path, tmp_path: Path
    ) -> None:
        uploaded = stack.client.upload_file(material / "corpus.jsonl")
        spec = spec_of(material, name="survivor")
        spec["corpus"]["files"] = [{"file_id": uploaded.id}]
        job = stack.client.submit(spec)
        wait_for_training(stack, job, num_steps=15)
        (stage,) = stack.stages()
        worker = stack.worker_of(stage)
        # Stopped first, so that the two deaths are one: neither can act on the other's.
        worker.suspend()
        stage.kill()
        worker.kill()

        *_, last = stack.client.watch(job.id, poll_seconds=0.3)

        assert last.job.status == "succeeded", last.job.error
        assert next(step.attempt for step in last.steps if step.name == "train.fused") == 2
        curve = [point.step for point in stack.client.metric_points(job.id)]
        assert sorted(curve) == list(range(1, NUM_STEPS + 1))
        check_model(stack.client.download_model(job.id, tmp_path / "fused"))

    def test_cancel_stops_a_training_and_leaves_no_process(self, stack: Stack, material: Path) -> None:
        spec = spec_of(material, name="doomed")
        spec["sources"], spec["strategy"] = spec["sources"][:1], {"target_as_source": False}
        spec["training"] = {**TRAINING, "max_steps": 100_000, "num_epochs": 100_000}
        job = stack.client.submit(spec)
        wait_for_training(stack, job, num_steps=1)
        (stage,) = stack.stages()
        group = [process for process in psutil.process_iter() if _group(process.pid) == stage.pid]

        asked = time.monotonic()
        stack.client.cancel(job.id)
        wait_for(lambda: stack.client.get_job(job.id).status == "cancelled", seconds=CANCEL_SECONDS)

        assert time.monotonic() - asked < CANCEL_SECONDS
        assert group
        assert not [process for process in group if _runs(process)]


def spec_of(material: Path, **changes: Any) -> dict[str, Any]:
    models = {name: material / name for name in ("target", "mpt", "prose")}
    evaluation = {"control": False, "bootstrap_resamples": 100}
    return tiny_spec(models, material / "corpus.jsonl", training=TRAINING, evaluation=evaluation, **changes)


def wait_for(condition: Callable[[], Any], *, seconds: float) -> Any:
    """What `condition` returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s"
        time.sleep(0.1)
    return found


def wait_for_training(stack: Stack, job: Job, *, num_steps: int) -> None:
    """Return once the training has come so far. The job may be slow, but it must move and not end."""
    seen, seen_at = None, time.monotonic()
    while True:
        now, points = stack.client.get_job(job.id), stack.client.metric_points(job.id)
        assert not now.is_terminal, f"{now.status}: {now.error}"
        if any(point.step >= num_steps for point in points):
            return
        if seen != (now.progress, len(points)):
            seen, seen_at = (now.progress, len(points)), time.monotonic()
        stood_still = time.monotonic() - seen_at
        assert stood_still < STANDSTILL_SECONDS, f"nothing moved for {stood_still:.0f} s: {now}"
        time.sleep(0.1)


def check_model(folder: Path) -> None:
    """The download is what was published, and transformers can use it."""
    verify_manifest(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("def add", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        output = model.generate(ids, max_new_tokens=4, do_sample=False)
    assert output.shape[1] > ids.shape[1]


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
