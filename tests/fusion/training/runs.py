"""Training runs on a tiny target, interrupted at will."""

import signal
from pathlib import Path
from typing import Any

from fusion.io.stage_inputs import StageInputs
from fusion.progress import NullProgress, StageReport
from fusion.spec import FusionSpec
from fusion.spec_text import validate_spec
from fusion.training import stage
from tests.fusion.training.lessons import make_lessons, write_align_folder
from tests.support.tiny_models import save_tiny_checkpoint

TRAINING = {
    "sequences_per_step": 3,
    "num_epochs": 2,
    "learning_rate": 1e-3,
    "checkpoint_every_steps": 2,
    "log_every_steps": 1,
    "max_tokens_per_micro_batch": 24,
}
LENGTHS = [12, 7, 9, 12, 5, 0, 12, 6]


class Interrupted(Exception):
    """Stands for a process that is killed."""


class RecordingProgress(NullProgress):
    """Keeps what a stage says; stops it after a given step, or asks it to end there."""

    def __init__(self, *, stop_after_step: int | None = None, end_after_step: int | None = None) -> None:
        self.stop_after_step = stop_after_step
        self.end_after_step = end_after_step
        self.parts: list[str] = []
        self.notes: list[str] = []
        self.values: list[dict[str, float]] = []
        self.updates: list[tuple[float, float, int | None]] = []

    def update(self, done: float, total: float, *, unit: str, tokens: int | None = None) -> None:
        self.updates.append((done, total, tokens))
        if done == self.stop_after_step:
            raise Interrupted
        if done == self.end_after_step:
            signal.raise_signal(signal.SIGTERM)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.values.append(values)

    def part_finished(self, path: Path) -> None:
        self.parts.append(path.name)

    def note(self, message: str, **details: Any) -> None:
        self.notes.append(message)


def make_spec(target: Path, **training: Any) -> FusionSpec:
    return validate_spec(
        {
            "api_version": "fusion/v1",
            "sources": [{"name": "mpt", "model": {"path": "/models/mpt"}}],
            "target": {"model": {"path": str(target)}},
            "corpus": {"files": [{"path": "/corpus.jsonl"}]},
            "training": {**TRAINING, **training},
        }
    )


class TrainingCase:
    """A target, lessons and a spec in a temporary folder."""

    def __init__(self, folder: Path, *, family: str = "llama", **training: Any) -> None:
        self.folder = folder
        self.target = save_tiny_checkpoint(folder / "target", family=family)
        shards = [make_lessons(LENGTHS[:4], seed=1), make_lessons(LENGTHS[4:], seed=2)]
        self.align = write_align_folder(folder / "align", shards)
        self.spec = make_spec(self.target, **training)

    def run(
        self, name: str, *, subject: str = "fused", progress: NullProgress | None = None, spec: Any = None
    ) -> StageReport:
        out_dir = self.folder / name
        out_dir.mkdir(exist_ok=True)
        inputs = StageInputs(subject=subject, steps={"align": self.align})
        return stage.run(spec or self.spec, inputs, out_dir, progress=progress or NullProgress())

    def weights(self, name: str) -> bytes:
        return (self.folder / name / "model" / "model.safetensors").read_bytes()
