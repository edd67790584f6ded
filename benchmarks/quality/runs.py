"""One regime with one seed: prepare and capture once, then align, train and score every variant.

The stages are the engine's own. Scores are kept per variant, so an interrupted run continues where it was and
a changed variant alone is run again.
"""

import functools
import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fusion
from benchmarks.quality.regimes import Regime
from benchmarks.quality.texts import documents
from benchmarks.quality.variants import CONTROL
from examples.demo.texts import Document
from fusion.evaluation.documents import HeldOutDocument, read_documents
from fusion.evaluation.scoring import score_documents
from fusion.io.atomic import write_bytes
from fusion.io.stage_inputs import StageInputs
from fusion.io.tensors import Array
from fusion.llms.loading import load_model, load_tokenizer
from fusion.llms.token_bytes import TextEncoder
from fusion.pipeline import run_stage
from fusion.progress import NullProgress
from fusion.spec import FusionSpec, Strategy

CAPTURED = ("target", "code", "prose")
_WINDOW_TOKENS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A regime, a seed, and the checkpoints that go with them."""

    regime: Regime
    seed: int
    checkpoints: dict[str, Path]
    libraries: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Changes with all that the scores depend on, but for the variants; with the engine's code too."""
        regime = {
            field.name: getattr(self.regime, field.name)
            for field in fields(self.regime)
            if field.name not in ("variants", "description")
        }
        names = {name: path.name for name, path in self.checkpoints.items()}
        facts = [regime, self.seed, names, self.libraries, _engine_digest()]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]

    def spec(self, corpus: Path, strategy: Strategy, *, held_out_fraction: float = 0.001) -> FusionSpec:
        data = {
            "api_version": "fusion/v1",
            "name": "quality",
            "sources": [
                {"name": name, "model": {"path": str(self.checkpoints[name])}} for name in CAPTURED[1:]
            ],
            "target": {"model": {"path": str(self.checkpoints["target"])}},
            "corpus": {
                "files": [{"path": str(corpus)}],
                "domain_field": "domain",
                "max_tokens_per_window": _WINDOW_TOKENS,
                "held_out_fraction": held_out_fraction,
            },
            "strategy": strategy.model_dump(),
            "training": {
                "num_epochs": self.regime.num_epochs,
                "sequences_per_step": self.regime.sequences_per_step,
                "learning_rate": self.regime.learning_rate,
                "warmup_fraction": 0.05,
                "checkpoint_every_steps": 1_000_000,
            },
            "seed": self.seed,
        }
        return FusionSpec.model_validate(data)


@functools.lru_cache(maxsize=1)
def _engine_digest() -> str:
    root = Path(fusion.__file__).parent
    sources = {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*.py"))}
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def prepare_setting(setting: Setting, folder: Path) -> dict[str, Array]:
    """Prepare and capture for every variant; returns nats per held-out document of target and sources."""
    bench = _Bench(setting, folder)
    for variant in setting.regime.variants:
        bench.captures(setting.spec(bench.corpus, variant.strategy))
    return {name: bench.score(name, setting.checkpoints[name]) for name in CAPTURED}


def run_variant(setting: Setting, folder: Path, name: str) -> Array:
    """Nats of every held-out document after fusing by a variant of the regime, or as the control."""
    bench = _Bench(setting, folder)
    if name == CONTROL:
        return bench.train(Strategy(), role="control")
    variant = next(variant for variant in setting.regime.variants if variant.name == name)
    return bench.train(variant.strategy, role="fused")


def held_out_documents(folder: Path) -> list[HeldOutDocument]:
    """The documents behind the scores of a setting, in their order."""
    return read_documents(folder / "held-out" / "prepare", max_documents=None)


class _Bench:
    """Folders of one setting, each made when first needed."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        torch.set_num_threads(1)
        self._setting = setting
        self._folder = folder
        self.corpus = folder / "corpus.jsonl"
        if not self.corpus.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            self._write_texts()
        self._documents = held_out_documents(folder)

    def _write_texts(self) -> None:
        """The corpus last: it says that the rest is there."""
        held_out = self._folder / "held-out.jsonl"
        _write_corpus(held_out, documents("held_out", self._setting.libraries))
        spec = self._setting.spec(held_out, Strategy(), held_out_fraction=0.999)
        self._stage("prepare", spec, self._folder / "held-out" / "prepare")
        _write_corpus(self.corpus, _sample(self._setting))

    def score(self, name: str, checkpoint: Path) -> Array:
        """Nats of every held-out document under a checkpoint."""
        return self._kept(f"model-{name}", lambda: self._score(checkpoint))

    def train(self, strategy: Strategy, *, role: str) -> Array:
        """Nats of every held-out document after training by a strategy."""
        spec = self._setting.spec(self.corpus, strategy)
        facts = [role, spec.strategy.model_dump(mode="json"), spec.training.model_dump(mode="json")]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]

        def train_and_score() -> Array:
            work = self._folder / f"work-{key}"
            steps = self.captures(spec)
            steps["align"] = self._stage("align", spec, work / "align", steps=steps)
            trained = self._stage("train", spec, work / role, steps=steps, subject=role)
            nats = self._score(trained / "model")
            shutil.rmtree(work)
            return nats

        return self._kept(f"{role}-{key}", train_and_score)

    def captures(self, spec: FusionSpec) -> dict[str, Path]:
        """Output folders of `prepare` and of every `extract` step the spec needs."""
        kept = spec.strategy.extraction
        prepared = self._stage("prepare", spec, self._folder / "prepare")
        steps = {"prepare": prepared}
        for name in spec.captured_names:
            out = self._folder / f"extract-{kept.top_k}-{spec.strategy.num_tail_samples}" / name
            steps[f"extract.{name}"] = self._stage(
                "extract", spec, out, steps={"prepare": prepared}, subject=name
            )
        return steps

    def _stage(
        self,
        stage: Any,
        spec: FusionSpec,
        out: Path,
        *,
        steps: dict[str, Path] | None = None,
        subject: str | None = None,
    ) -> Path:
        if not (out / "manifest.json").is_file():
            inputs = StageInputs(subject=subject, steps=steps or {})
            run_stage(stage, spec, inputs, out, progress=NullProgress())
        return out

    def _score(self, checkpoint: Path) -> Array:
        encoder = TextEncoder(load_tokenizer(checkpoint))
        assert encoder.start_id is not None
        device = torch.device("cpu")
        scores = score_documents(
            load_model(checkpoint, dtype="float32", device=device),
            encoder,
            self._documents,
            start_id=encoder.start_id,
            device=device,
            on_windows=lambda _: None,
        )
        return np.where(scores.lossless, scores.nats, np.nan)

    def _kept(self, name: str, make: Callable[[], Array]) -> Array:
        path = self._folder / f"{name}.npy"
        if not path.is_file():
            partial = path.with_suffix(".partial.npy")
            np.save(partial, make())
            partial.rename(path)
        return np.asarray(np.load(path))


def _sample(setting: Setting) -> list[Document]:
    """The fusion corpus of a seed."""
    return random.Random(setting.seed).sample(
        documents("fusion", setting.libraries), setting.regime.num_documents
    )


def _write_corpus(path: Path, chosen: Iterable[Document]) -> None:
    lines = (json.dumps({"text": document.text, "domain": document.domain}) + "\n" for document in chosen)
    write_bytes(path, "".join(lines).encode())
