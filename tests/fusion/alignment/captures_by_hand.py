"""Captures, windows and specs for the tests of alignment, made without any model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusion.io.atomic import write_json
from fusion.io.captures import Capture, shard_folder, write_capture
from fusion.io.stage_inputs import StageInputs
from fusion.io.tensors import smallest_id_dtype
from fusion.io.windows import Window, windows_path, write_windows
from fusion.llms.token_bytes import TextEncoder
from fusion.spec import FusionSpec
from fusion.spec_text import validate_spec
from tests.support.tiny_models import VOCABULARY_SIZE, load_golden_tokenizer

TEXTS = (
    "Knowledge fusion combines several models.\n\tfor x in range(12):\n        print(x)\n",
    "The target keeps its own tokenizer; naïve café, 北京, and an emoji 🙂.",
    "def add(a, b):\n    return a + b  # the sum of both\n",
)


def encoder_of(tokenizer: str) -> TextEncoder:
    """A golden tokenizer as an encoder."""
    return TextEncoder(load_golden_tokenizer(tokenizer))


def windows_of(texts: Sequence[str]) -> list[Window]:
    """One document per text."""
    return [
        Window(document=number, domain="prose", text=text, ends_document=True)
        for number, text in enumerate(texts)
    ]


def random_capture(
    windows: Sequence[Window], encoder: TextEncoder, *, seed: int = 0, top_k: int = 8, num_samples: int = 0
) -> Capture:
    """What `extract` would write for a model that predicts random distributions, sharpened on the truth."""
    rng = np.random.default_rng(seed)
    ends, next_ids, starts = [], [], [0]
    for window in windows:
        encoded = encoder.encode(window.text)
        assert encoded.lossless
        ends.append(np.concatenate([[0], encoded.ends]))
        next_ids.append(np.append(encoded.ids, encoder.eos_id if window.ends_document else -1))
        starts.append(starts[-1] + len(encoded.ids) + 1)
    nexts = np.concatenate(next_ids).astype(np.int32)
    logits = rng.normal(size=(len(nexts), encoder.size)) * 3
    logits[np.arange(len(nexts)), np.maximum(nexts, 0)] += 6.0 * rng.random(len(nexts))
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return capture_of(
        probabilities,
        window_starts=starts,
        ends=np.concatenate(ends),
        next_ids=nexts,
        top_k=top_k,
        num_samples=num_samples,
        rng=rng,
    )


def capture_of(
    probabilities: Any,
    *,
    window_starts: Sequence[int],
    ends: Any,
    next_ids: Any,
    top_k: int,
    num_samples: int = 0,
    rng: np.random.Generator | None = None,
    dtype: type[np.floating[Any]] = np.float16,
) -> Capture:
    """The capture of given distributions [N, V]; half precision as on disk, unless told otherwise."""
    num_rows, size = probabilities.shape
    order = np.argsort(-probabilities, axis=1, kind="stable")
    top = order[:, :top_k]
    top_weights = np.take_along_axis(probabilities, top, axis=1)
    tails = np.maximum(1.0 - top_weights.sum(axis=1), 0.0)
    samples = np.zeros((num_rows, num_samples), dtype=np.int64)
    for row in range(num_rows if num_samples else 0):
        rest = order[row, top_k:]
        samples[row] = (rng or np.random.default_rng(0)).choice(
            rest, size=num_samples, p=probabilities[row, rest] / probabilities[row, rest].sum()
        )
    known = np.asarray(next_ids) >= 0
    next_weights = probabilities[np.arange(num_rows), np.where(known, next_ids, 0)]
    with np.errstate(divide="ignore"):
        return Capture(
            window_starts=np.asarray(window_starts, dtype=np.int64),
            ends=np.asarray(ends, dtype=np.uint32),
            next_ids=np.asarray(next_ids, dtype=np.int32),
            next_logprobs=np.where(known, np.log(next_weights), np.nan).astype(np.float32),
            top_ids=top.astype(smallest_id_dtype(size)),
            top_logprobs=np.log(top_weights).astype(dtype),
            tail_logprobs=np.log(tails).astype(dtype),
            sample_ids=samples.astype(smallest_id_dtype(size)),
        )


def spec_of(*, sources: Sequence[str] = ("mpt",), strategy: dict[str, Any] | None = None) -> FusionSpec:
    """A spec with one model id per source name."""
    return validate_spec(
        {
            "api_version": "fusion/v1",
            "sources": [{"name": name, "model": {"model_id": f"model-{name}"}} for name in sources],
            "target": {"model": {"model_id": "model-target"}},
            "corpus": {"files": [{"path": "corpus.jsonl"}]},
            "strategy": strategy or {},
        }
    )


def save_inputs(
    root: Path, shards: Sequence[Sequence[Window]], captures: dict[str, list[Capture]], models: dict[str, str]
) -> StageInputs:
    """Everything `align` reads, on disk; `models` maps a name to its golden tokenizer."""
    prepared = root / "prepare"
    steps = {"prepare": prepared}
    for number, windows in enumerate(shards):
        write_windows(windows_path(prepared, "train", number), windows)
    for name, per_shard in captures.items():
        steps[f"extract.{name}"] = root / f"extract.{name}"
        for number, capture in enumerate(per_shard):
            write_capture(shard_folder(steps[f"extract.{name}"], number), capture, meta={})
    folders = {}
    for name, tokenizer in models.items():
        folders[f"model-{name}"] = root / "models" / name
        load_golden_tokenizer(tokenizer).save_pretrained(folders[f"model-{name}"])
    rows = {name: {"vocabulary_size": VOCABULARY_SIZE[tokenizer]} for name, tokenizer in models.items()}
    write_json(prepared / "models.json", rows)
    return StageInputs(steps=steps, models=folders)
