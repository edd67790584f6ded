"""Stage `evaluate`: sources, target, control and fused model on the held-out documents."""

import gc
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fusion.errors import InfrastructureError
from fusion.evaluation.documents import HeldOutDocument, read_documents
from fusion.evaluation.report import Scores, build_report
from fusion.evaluation.scoring import DocumentScores, score_documents
from fusion.io.atomic import atomic_folder, read_json, write_json
from fusion.io.manifest import read_manifest, write_manifest
from fusion.io.stage_inputs import StageInputs
from fusion.io.tensors import read_arrays, write_arrays
from fusion.llms.checkpoints import resolve_checkpoint
from fusion.llms.loading import load_model, load_tokenizer, pick_device
from fusion.llms.token_bytes import TextEncoder
from fusion.progress import Progress, StageReport
from fusion.spec import Dtype, FusionSpec

EVALUATION_KIND = "evaluation"
SCORES_KIND = "scores"
_SCORES_NAME = "scores.safetensors"
_ROLES = ("control", "fused")


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A model to be scored. `identity` changes when its weights or tokenizer do."""

    name: str
    folder: Path
    dtype: Dtype
    identity: str


def run(spec: FusionSpec, inputs: StageInputs, out_dir: Path, *, progress: Progress) -> StageReport:
    """Write `report.json`. Each model's scores are a part that another attempt uses again.

    Raises:
        CapacityError: one window exceeds the device's memory.
        ModelUnusable: a model cannot be loaded.
    """
    prepared = inputs.steps["prepare"]
    documents = read_documents(prepared, max_documents=spec.evaluation.max_documents)
    candidates = list(_candidates(spec, inputs))
    counter = _Counter(progress, total=len(candidates) * sum(len(document.windows) for document in documents))
    scores: Scores = {}
    for candidate in candidates:
        key = _scores_key(candidate, spec, text=read_manifest(prepared).digest)
        scores[candidate.name] = _scores_of(candidate, documents, out_dir, key=key, counter=counter)
    report = build_report(documents, scores, settings=spec.evaluation, seed=spec.seed)
    report["models"] = {candidate.name: _origin_of(spec, candidate.name) for candidate in candidates}
    report["stages"] = {name: read_manifest(folder).meta for name, folder in sorted(inputs.steps.items())}
    if not report["overall"]["documents"]:
        progress.note("no held-out document could be scored", hint="raise corpus.held_out_fraction")
    write_json(out_dir / "report.json", report)
    write_manifest(out_dir, kind=EVALUATION_KIND, files=["report.json"])
    return StageReport(figures=_figures(report))


def _origin_of(spec: FusionSpec, name: str) -> str:
    """Where a scored model comes from."""
    if name in _ROLES:
        return (
            "trained by this job, with fusion" if name == "fused" else "trained by this job, without fusion"
        )
    return spec.model_ref(name).label


def _candidates(spec: FusionSpec, inputs: StageInputs) -> Iterator[Candidate]:
    """Target, sources in the order of the spec, control and fused where they were trained."""
    digests = {
        name: facts["digest"] for name, facts in read_json(inputs.steps["prepare"] / "models.json").items()
    }
    dtypes: dict[str, Dtype] = {source.name: source.dtype for source in spec.sources}
    for name, _, ref in spec.model_refs():
        yield Candidate(
            name=name,
            folder=resolve_checkpoint(ref, inputs),
            dtype=dtypes.get(name, "auto"),
            identity=digests[name],
        )
    for role in _ROLES:
        folder = inputs.steps.get(f"train.{role}")
        if folder is not None:
            identity = read_manifest(folder).digest
            yield Candidate(name=role, folder=folder / "model", dtype="auto", identity=identity)


def _scores_key(candidate: Candidate, spec: FusionSpec, *, text: str) -> str:
    facts = [candidate.identity, candidate.dtype, text, spec.evaluation.max_documents, pick_device().type]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _scores_of(
    candidate: Candidate, documents: list[HeldOutDocument], out_dir: Path, *, key: str, counter: "_Counter"
) -> DocumentScores:
    """Scores of one model: from an earlier attempt where they are complete, else by running it."""
    folder = out_dir / f"scores-{candidate.name}"
    found = _read_scores(folder, key=key)
    if found is not None:
        counter.add(sum(len(document.windows) for document in documents))
        return found
    scores = _run_model(candidate, documents, counter=counter)
    with atomic_folder(folder) as partial:
        write_arrays(partial / _SCORES_NAME, scores.arrays())
        write_manifest(partial, kind=SCORES_KIND, meta={"key": key})
    counter.progress.part_finished(folder)
    return scores


def _read_scores(folder: Path, *, key: str) -> DocumentScores | None:
    try:
        manifest = read_manifest(folder, kind=SCORES_KIND)
    except InfrastructureError:
        # Unfinished or torn: the model is simply run again.
        return None
    return DocumentScores(**read_arrays(folder / _SCORES_NAME)) if manifest.meta["key"] == key else None


def _run_model(
    candidate: Candidate, documents: list[HeldOutDocument], *, counter: "_Counter"
) -> DocumentScores:
    device = pick_device()
    encoder = TextEncoder(load_tokenizer(candidate.folder))
    assert encoder.start_id is not None, "prepare refuses tokenizers without a start token"
    model: Any = load_model(candidate.folder, dtype=candidate.dtype, device=device)
    try:
        return score_documents(
            model,
            encoder,
            documents,
            start_id=encoder.start_id,
            device=device,
            on_windows=counter.add,
        )
    finally:
        # The next model needs the room this one took.
        del model
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


class _Counter:
    """Windows scored so far, over all models."""

    def __init__(self, progress: Progress, *, total: int) -> None:
        self.progress = progress
        self._total = total
        self._done = 0

    def add(self, num_windows: int) -> None:
        self._done += num_windows
        self.progress.update(self._done, self._total, unit="windows")


def _figures(report: dict[str, Any]) -> dict[str, Any]:
    overall = report["overall"]
    return {
        "documents": overall["documents"],
        "num_excluded_documents": report["num_excluded_documents"],
        "bits_per_byte": {name: found["bits_per_byte"] for name, found in overall["models"].items()},
        "verdicts": [comparison["sentence"] for comparison in overall["comparisons"]],
    }
