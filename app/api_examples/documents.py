"""What a job leaves to be read: its lock and its report. Their shape is the engine's, and in no schema."""

from collections.abc import Mapping
from typing import Any, Final

from app.api_examples.jobs import JOB
from app.api_examples.story import (
    CHECKPOINT_DIGEST,
    CORPUS_SHA256,
    FILE_ID,
    FUSED_DIGEST,
    JOB_ID,
    REVISION,
)

_BASE: Final[dict[str, Any]] = {
    "model_type": "llama",
    "architecture": "LlamaForCausalLM",
    "label": f"example/base-7b@{REVISION}",
    "hub": "example/base-7b",
    "revision": REVISION,
    "digest": CHECKPOINT_DIGEST,
    "license": "apache-2.0",
    "num_parameters": 6_738_415_616,
    "vocabulary_size": 32_000,
    "tokenizer_size": 32_000,
    "max_positions": 4096,
    "dtype": "bfloat16",
    "lossy": {"documents": 0, "example": None},
}
_LOCK: Final[dict[str, Any]] = {
    "object": "job_lock",
    "job_id": JOB_ID,
    "spec": JOB["spec"],
    "spec_digest": JOB["spec_digest"],
    "seed": 0,
    "models": {"target": _BASE},
    "corpus": {
        "digest": CORPUS_SHA256,
        "origins": [{"name": "prose.jsonl.zst", "file_id": FILE_ID, "sha256": CORPUS_SHA256}],
        "num_documents": 120_000,
        "num_windows": 154_000,
        "num_bytes": 310_000_000,
    },
    "outputs": {"prepare": FUSED_DIGEST},
}


def _score(bits_per_byte: float, perplexity: float) -> dict[str, Any]:
    return {
        "documents": 6000,
        "bits_per_byte": bits_per_byte,
        "perplexity_per_token": perplexity,
        "tokens": 3_900_000,
    }


def _comparison(baseline: str, difference: float, low: float, high: float) -> dict[str, Any]:
    found = f"{difference:+.4f} bits per byte, 95% interval {low:+.4f} to {high:+.4f}, 6000 documents"
    return {
        "model": "fused",
        "baseline": baseline,
        "num_documents": 6000,
        "confidence": 0.95,
        "difference": difference,
        "low": low,
        "high": high,
        "verdict": "better",
        "sentence": f"fused is better than {baseline} ({found})",
    }


_SCORES: Final = {
    "code": _score(0.861, 11.4),
    "target": _score(0.842, 10.2),
    "control": _score(0.824, 9.7),
    "fused": _score(0.815, 9.5),
}
_SECTION: Final[dict[str, Any]] = {
    "documents": 6000,
    "bytes": 15_500_000,
    "models": _SCORES,
    "comparisons": [
        _comparison("control", -0.009, -0.0113, -0.0068),
        _comparison("target", -0.027, -0.0291, -0.0248),
    ],
}
_REPORT: Final[dict[str, Any]] = {
    "object": "job_report",
    "job_id": JOB_ID,
    "num_documents": 6000,
    "num_excluded_documents": 0,
    "excluded": {name: {"lossy_documents": 0, "not_finite_documents": 0} for name in _SCORES},
    "unit": "bits per byte, lower is better",
    "bootstrap": {"num_resamples": 2000, "confidence": 0.95},
    "overall": _SECTION,
    "domains": {"prose": _SECTION},
}

DOCUMENT_ANSWERS: Final[Mapping[str, Mapping[int, Any]]] = {
    "GET /v1/jobs/{job_id}/lock": {200: _LOCK},
    "GET /v1/jobs/{job_id}/report": {200: _REPORT},
}
