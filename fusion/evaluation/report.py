"""The evaluation report: scores per domain and overall, and what they allow to be said."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fusion.evaluation.comparison import bits_per_byte, compare
from fusion.evaluation.documents import HeldOutDocument
from fusion.evaluation.scoring import DocumentScores
from fusion.io.tensors import Array
from fusion.spec import EvaluationSpec

Scores = dict[str, DocumentScores]

_MAX_EXPONENT = 700.0  # e to more than this is no float

COMPARISONS = (("fused", "control"), ("fused", "target"))


def build_report(
    documents: Sequence[HeldOutDocument], scores: Scores, *, settings: EvaluationSpec, seed: int
) -> dict[str, Any]:
    """The report as JSON.

    Documents that a tokenizer does not reproduce, or for which a model gives no number, are left out for all
    models, so that every figure is over the same text; how many is counted per model.
    """
    usable = np.ones(len(documents), bool)
    excluded = {}
    for name, found in scores.items():
        finite = np.isfinite(found.nats)
        usable &= found.lossless & finite
        excluded[name] = {
            "lossy_documents": int((~found.lossless).sum()),
            "not_finite_documents": int((~finite).sum()),
        }
    domains = np.array([document.domain for document in documents], dtype=object)
    num_bytes = np.array([document.num_bytes for document in documents], dtype=np.int64)

    def section(rows: Array) -> dict[str, Any]:
        return _section(np.flatnonzero(rows), num_bytes, scores, settings=settings, seed=seed)

    return {
        "num_documents": len(documents),
        "num_excluded_documents": int((~usable).sum()),
        "excluded": excluded,
        "unit": "bits per byte, lower is better",
        "bootstrap": {"num_resamples": settings.bootstrap_resamples, "confidence": settings.confidence},
        "overall": section(usable),
        "domains": {domain: section(usable & (domains == domain)) for domain in sorted(set(domains))},
    }


def _section(
    rows: Array, num_bytes_D: Array, scores: Scores, *, settings: EvaluationSpec, seed: int
) -> dict[str, Any]:
    """Figures over the documents `rows`."""
    num_bytes = num_bytes_D[rows]
    nats = {name: found.nats[rows] for name, found in scores.items()}
    pairs = [pair for pair in COMPARISONS if len(rows) and scores.keys() >= set(pair)]
    return {
        "documents": len(rows),
        "bytes": int(num_bytes.sum()),
        "models": {
            name: _figures(nats[name], num_bytes, int(found.num_tokens[rows].sum()))
            for name, found in scores.items()
        },
        "comparisons": [
            compare(
                model=model,
                baseline=baseline,
                nats_model=nats[model],
                nats_baseline=nats[baseline],
                num_bytes=num_bytes,
                num_resamples=settings.bootstrap_resamples,
                confidence=settings.confidence,
                seed=seed,
            ).to_dict()
            for model, baseline in pairs
        ],
    }


def _figures(nats: Array, num_bytes: Array, num_tokens: int) -> dict[str, Any]:
    """One model's figures; None where there is no text. Perplexities of two tokenizers do not compare."""
    per_token = nats.sum() / num_tokens if num_tokens else math.inf
    return {
        "bits_per_byte": bits_per_byte(nats, num_bytes) if len(nats) else None,
        "perplexity_per_token": math.exp(per_token) if per_token < _MAX_EXPONENT else None,
        "tokens": num_tokens,
    }
