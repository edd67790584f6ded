"""A training whose process is killed twice, anywhere, ends with the bytes of one that is not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.fusion.training.runs import TrainingCase

NUM_STEPS = 12
NUM_KILLS = 2


def start(case: TrainingCase, out_dir: Path) -> tuple[subprocess.Popen[bytes], int]:
    """The stage in a process of its own, as a worker starts it; the process and its events."""
    request = out_dir.with_suffix(".json")
    inputs = {"steps": {"align": str(case.align)}, "files": {}, "models": {}}
    request.write_text(
        json.dumps(
            {
                "stage": "train",
                "subject": "fused",
                "spec": case.spec.model_dump(mode="json"),
                "inputs": inputs,
                "out_dir": str(out_dir),
            }
        )
    )
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "fusion", "stage", str(request), "--events-fd", str(writer)]
    process = subprocess.Popen(command, pass_fds=(writer,), start_new_session=True)
    os.close(writer)
    return process, reader


def kill_after(process: subprocess.Popen[bytes], reader: int, step: int, *, delay_seconds: float) -> int:
    """Kill a stage some time after it has reported a step; returns the last step it reported."""
    reached = 0
    with os.fdopen(reader) as lines:
        for line in lines:
            event = json.loads(line)
            reached = event["done"] if event["type"] == "progress" else reached
            if event["type"] == "progress" and event["done"] == step:
                time.sleep(delay_seconds)
                os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return int(reached)


def finish(process: subprocess.Popen[bytes], reader: int) -> dict[str, Any]:
    """Let a stage run to the end; returns the figures it reports."""
    with os.fdopen(reader) as lines:
        events = [json.loads(line) for line in lines]
    assert process.wait() == 0
    figures: dict[str, Any] = events[-1]["figures"]
    return figures


def test_a_twice_killed_training_equals_the_undisturbed_one(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print("seed of the kills:", seed)
    rng = random.Random(seed)
    # A loaded disk writes checkpoints slowly, and kills may well come in the middle of one. Every attempt has
    # a process of its own, as with a worker: that is what equal bytes are promised for.
    case = TrainingCase(tmp_path, num_epochs=4, checkpoint_every_steps=1, max_steps=NUM_STEPS)
    finish(*start(case, tmp_path / "undisturbed"))
    reached = 0

    for kills_left in range(NUM_KILLS, 0, -1):
        step = rng.randint(reached + 1, NUM_STEPS - 2 * kills_left)
        process, reader = start(case, tmp_path / "killed")
        reached = kill_after(process, reader, step, delay_seconds=rng.uniform(0.0, 0.02))
        assert not (tmp_path / "killed/manifest.json").exists()
    figures = finish(*start(case, tmp_path / "killed"))

    assert 0 < figures["num_resumed_steps"] < NUM_STEPS
    assert case.weights("killed") == case.weights("undisturbed")
    records = [(tmp_path / name / "training.json").read_bytes() for name in ("killed", "undisturbed")]
    assert records[0] == records[1]
