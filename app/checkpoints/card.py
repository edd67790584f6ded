"""The model card of a promoted checkpoint. Pure text, no I/O."""

from typing import Any, Final

from app.checkpoints.repository import Checkpoint
from app.db.models import Job

_HEAD: Final = """---
library_name: transformers
pipeline_tag: text-generation
tags: [knowledge-fusion, checkpoint]
---

# {name}, after {number} optimiser steps

The model as it was in the middle of a training: checkpoint `{checkpoint_id}` of step `{step}`, attempt
{attempt}, of job `{job_id}` ({job_name}). It was not evaluated; nothing is known of it but the figures below.

Weights are float32, as they are trained. Tokenizer and generation config are the target's. The licence is
what the licences of the target and the sources allow.

| at that step | |
|---|---|
"""
_SOURCES: Final = """
Target: {target}. Sources: {sources}. The whole spec is in `fusion_spec.json` (digest `{digest}`).
"""


def render_card(checkpoint: Checkpoint, job: Job, *, name: str) -> str:
    """README.md of the promoted model."""
    artifact = checkpoint.artifact
    head = _HEAD.format(
        name=name,
        number=checkpoint.number,
        checkpoint_id=artifact.id,
        step=checkpoint.step.name,
        attempt=artifact.attempt,
        job_id=job.id,
        job_name=job.name,
    )
    rows = "".join(f"| {key} | {value:.6g} |\n" for key, value in _figures(checkpoint).items())
    sources = ", ".join(
        f"{source['name']} ({_label(source['model'])})" for source in job.spec.get("sources", [])
    )
    target = _label(job.spec.get("target", {}).get("model", {}))
    return head + rows + _SOURCES.format(target=target, sources=sources or "none", digest=job.spec_digest)


def _figures(checkpoint: Checkpoint) -> dict[str, float]:
    return {key: value for key, value in checkpoint.metrics.items() if isinstance(value, int | float)}


def _label(model: dict[str, Any]) -> str:
    """A model as the spec names it; the folders of this service's machines are nobody's business."""
    if model.get("hub"):
        return f"{model['hub']}@{model['revision']}"
    return str(model.get("model_id") or str(model.get("path") or "unknown").rpartition("/")[2])
