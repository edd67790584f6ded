"""A job up to evaluation: really prepared, with random checkpoints standing for the trained ones."""

import copy
import shutil
from pathlib import Path
from typing import Any, Self

from fusion.corpus import stage as prepare
from fusion.evaluation import stage
from fusion.io.atomic import read_json, write_json
from fusion.io.manifest import write_manifest
from fusion.io.stage_inputs import StageInputs
from fusion.progress import NullProgress, StageReport
from fusion.spec import FusionSpec
from fusion.spec_text import validate_spec
from tests.support.tiny_jobs import save_models, tiny_spec, write_corpus
from tests.support.tiny_models import save_tiny_checkpoint


class TrainedJob:
    """Folders of the steps before `evaluate`."""

    def __init__(
        self, folder: Path, *, roles: tuple[str, ...] = ("fused", "control"), **changes: Any
    ) -> None:
        self.folder = folder
        self.models = save_models(folder / "models")
        self.raw_spec = tiny_spec(self.models, write_corpus(folder / "corpus.jsonl"), **changes)
        self.steps = {"prepare": folder / "prepare"}
        prepare.run(self.spec, StageInputs(), self.steps["prepare"], progress=NullProgress())
        for seed, role in enumerate(roles, start=7):
            self.steps[f"train.{role}"] = save_trained(folder / f"train.{role}", role=role, seed=seed)

    def copy_to(self, folder: Path) -> Self:
        """The same job with step folders of its own, to be changed at will."""
        twin = copy.copy(self)
        twin.folder = folder
        twin.steps = {name: Path(shutil.copytree(path, folder / name)) for name, path in self.steps.items()}
        return twin

    @property
    def spec(self) -> FusionSpec:
        return validate_spec(self.raw_spec)

    def evaluate(self, *, progress: NullProgress | None = None) -> StageReport:
        inputs = StageInputs(steps=self.steps)
        return stage.run(self.spec, inputs, self.out_dir, progress=progress or NullProgress())

    @property
    def out_dir(self) -> Path:
        path = self.folder / "evaluate"
        path.mkdir(exist_ok=True)
        return path

    @property
    def report(self) -> dict[str, Any]:
        return read_json(self.out_dir / "report.json")


def save_trained(folder: Path, *, role: str, seed: int) -> Path:
    """The output folder of `train` with random weights."""
    save_tiny_checkpoint(folder / "model", seed=seed)
    write_json(folder / "training.json", {"role": role})
    write_manifest(
        folder, kind="trained", meta={"role": role, "num_steps": 4, "num_tokens": 100, "loss": 7.5}
    )
    return folder
