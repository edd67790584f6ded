"""Stage `publish`: the fused model as a folder that stands alone."""

from pathlib import Path
from typing import Any

from fusion.io.atomic import read_json, write_bytes, write_json
from fusion.io.manifest import read_manifest, write_manifest
from fusion.io.stage_inputs import StageInputs
from fusion.progress import Progress, StageReport
from fusion.publishing.card import CardFacts, render_card
from fusion.publishing.model_folder import copy_model, require_finite_weights
from fusion.spec import FusionSpec

MODEL_KIND = "model"
_REPORT_NAME, _SPEC_NAME, _CARD_NAME = "report.json", "fusion_spec.json", "README.md"
_NUM_PHASES = 3
_ATTEMPT_FIGURES = frozenset(
    {"seconds", "tokens_per_second", "peak_memory_bytes", "num_resumed_steps", "data_wait_fraction"}
)
"""Of the attempts that a job took, not of the model; they stay in the job's figures."""


def run(spec: FusionSpec, inputs: StageInputs, out_dir: Path, *, progress: Progress) -> StageReport:
    """Copy the fused model, check its weights, add card, spec and report, and list every file's sha256.

    Raises:
        TrainingDiverged: a weight is not finite.
        InfrastructureError: an input is unfinished or damaged.
    """
    progress.update(0, _NUM_PHASES, unit="phases")
    names = copy_model(inputs.steps["train.fused"], out_dir)
    progress.update(1, _NUM_PHASES, unit="phases")
    num_parameters = require_finite_weights(out_dir)
    progress.update(2, _NUM_PHASES, unit="phases")
    report = read_json(inputs.steps["evaluate"] / _REPORT_NAME)
    stages = report.get("stages", {}) | {
        name: read_manifest(folder).meta for name, folder in sorted(inputs.steps.items())
    }
    stages = {name: _facts_of_model(meta) for name, meta in stages.items()}
    report["stages"] = {name: meta for name, meta in stages.items() if meta}
    facts = CardFacts(
        num_parameters=num_parameters,
        models=read_json(inputs.steps["prepare"] / "models.json"),
        corpus=stages["prepare"],
        alignment=stages["align"],
        training=stages["train.fused"],
        report=report,
    )
    write_json(out_dir / _SPEC_NAME, spec.model_dump(mode="json"))
    write_json(out_dir / _REPORT_NAME, report)
    write_bytes(out_dir / _CARD_NAME, render_card(spec, facts).encode())
    manifest = write_manifest(
        out_dir,
        kind=MODEL_KIND,
        meta=_lineage(spec, facts),
        files=[*names, _SPEC_NAME, _REPORT_NAME, _CARD_NAME],
    )
    progress.update(_NUM_PHASES, _NUM_PHASES, unit="phases")
    return StageReport(
        figures={
            "num_parameters": num_parameters,
            "num_bytes": manifest.num_bytes,
            "num_files": len(manifest.files),
            "digest": manifest.digest,
        }
    )


def _facts_of_model(meta: dict[str, Any]) -> dict[str, Any]:
    """Without figures of the attempt: the same job publishes the same bytes."""
    return {name: value for name, value in meta.items() if name not in _ATTEMPT_FIGURES}


def _lineage(spec: FusionSpec, facts: CardFacts) -> dict[str, Any]:
    """What a registry wants to know without reading the card."""
    pins = ("label", "hub", "revision", "digest")
    return {
        "name": spec.name,
        "spec_digest": spec.digest(),
        "num_parameters": facts.num_parameters,
        "corpus_digest": facts.corpus.get("corpus_digest"),
        "models": {name: {pin: model.get(pin) for pin in pins} for name, model in facts.models.items()},
    }
