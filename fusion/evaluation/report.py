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

_JUDGED = frozenset({"target", "control", "fused"})
COMPARISONS = (("fused", "control"), ("fused", "target"))


def build_report(
    documents: Sequence[HeldOutDocument], scores: Scores, *, settings: EvaluationSpec, seed: int
) -> dict[str, Any]:
    """The report as JSON.

    Documents that the target's tokenizer does not reproduce, or for which target, control or fused give no
    number, are left out for all models. A source that cannot score some of the others has its figure over
    those it can, and says over how many: one broken source must not hide what fusion did.
    """
    scored = {name: found.lossless & np.isfinite(found.nats) for name, found in scores.items()}
    usable = np.ones(len(documents), bool)
    for name in _JUDGED & scores.keys():
        usable &= scored[name]
    excluded = {
        name: {
            "lossy_documents": int((~found.lossless).sum()),
            "not_finite_documents": int((~np.isfinite(found.nats)).sum()),
        }
        for name, found in scores.items()
    }
    domains = np.array([document.domain for document in documents], dtype=object)
    num_bytes = np.array([document.num_bytes for document in documents], dtype=np.int64)

    def section(rows: Array) -> dict[str, Any]:
        return _section(rows, num_bytes, scores, scored, settings=settings, seed=seed)

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
    rows_D: Array,
    num_bytes_D: Array,
    scores: Scores,
    scored: dict[str, Array],
    *,
    settings: EvaluationSpec,
    seed: int,
) -> dict[str, Any]:
    """Figures over the documents where `rows_D` is True."""
    num_bytes = num_bytes_D[rows_D]
    nats = {name: found.nats[rows_D] for name, found in scores.items()}
    pairs = [pair for pair in COMPARISONS if len(num_bytes) and scores.keys() >= set(pair)]
    return {
        "documents": len(num_bytes),
        "bytes": int(num_bytes.sum()),
        "models": {
            name: _figures(found, num_bytes_D, rows_D & scored[name]) for name, found in scores.items()
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


def _figures(found: DocumentScores, num_bytes_D: Array, rows_D: Array) -> dict[str, Any]:
    """One model's figures; None where there is no text. Perplexities of two tokenizers do not compare."""
    nats, num_tokens = found.nats[rows_D], int(found.num_tokens[rows_D].sum())
    per_token = nats.sum() / num_tokens if num_tokens else math.inf
    return {
        "documents": len(nats),
        "bits_per_byte": bits_per_byte(nats, num_bytes_D[rows_D]) if len(nats) else None,
        "perplexity_per_token": math.exp(per_token) if per_token < _MAX_EXPONENT else None,
        "tokens": num_tokens,
    }
