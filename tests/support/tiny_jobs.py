"""A whole small job: three tiny checkpoints of different tokenizers, a corpus of two domains, a spec."""

import json
from pathlib import Path
from typing import Any

from tests.support.tiny_models import save_tiny_checkpoint

CODE = "def add_{n}(first, second):\n    total = first + second\n    return total * {n}\n"
PROSE = "Chapter {n}. The models read the same text, and each of them predicts what comes next.\n"


def write_corpus(path: Path, *, num_documents: int = 24) -> Path:
    """JSONL with `text` and `domain`, half code and half prose."""
    lines = []
    for number in range(num_documents):
        domain, template = [("code", CODE), ("prose", PROSE)][number % 2]
        text = "".join(template.format(n=number * 7 + line) for line in range(4))
        lines.append(json.dumps({"text": text, "domain": domain}))
    path.write_text("\n".join(lines) + "\n")
    return path


def save_models(folder: Path) -> dict[str, Path]:
    """`target` (Llama-like), `mpt` (MPT-like) and `prose` (OpenLLaMA-like), random weights."""
    return {
        "target": save_tiny_checkpoint(folder / "target", family="llama", tokenizer="llama_like", seed=0),
        "mpt": save_tiny_checkpoint(folder / "mpt", family="mpt", tokenizer="mpt_like", seed=1),
        "prose": save_tiny_checkpoint(folder / "prose", family="llama", tokenizer="openllama_like", seed=2),
    }


def tiny_spec(models: dict[str, Path], corpus: Path, **changes: Any) -> dict[str, Any]:
    """A spec that runs in seconds on a CPU; top-level fields can be replaced."""
    return {
        "api_version": "fusion/v1",
        "name": "tiny",
        "sources": [{"name": name, "model": {"path": str(models[name])}} for name in ("mpt", "prose")],
        "target": {"model": {"path": str(models["target"])}},
        "corpus": {
            "files": [{"path": str(corpus)}],
            "domain_field": "domain",
            "max_tokens_per_window": 128,
            "windows_per_shard": 8,
            "held_out_fraction": 0.25,
        },
        "training": {
            "max_steps": 4,
            "num_epochs": 2,
            "sequences_per_step": 8,
            "learning_rate": 1e-3,
            "checkpoint_every_steps": 2,
            "log_every_steps": 1,
        },
        "evaluation": {"bootstrap_resamples": 100},
        **changes,
    }
