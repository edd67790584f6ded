"""Whether one model is better than another: paired bootstrap over documents.

Letters: `D` documents, `R` resamples.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from fusion.io.tensors import Array

Verdict = Literal["better", "worse", "no_significant_difference", "too_few_documents"]

_MAX_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """`model` against `baseline` in bits per byte; negative is better.

    low, high: ends of the bootstrap interval of the difference; None where there are too few documents.
    """

    model: str
    baseline: str
    num_documents: int
    confidence: float
    difference: float
    low: float | None
    high: float | None

    @property
    def verdict(self) -> Verdict:
        if self.low is None or self.high is None:
            return "too_few_documents"
        if self.high < 0:
            return "better"
        return "worse" if self.low > 0 else "no_significant_difference"

    @property
    def sentence(self) -> str:
        """The verdict with its basis, for people."""
        found = f"{self.difference:+.4f} bits per byte"
        if self.low is None or self.high is None:
            documents = "1 document" if self.num_documents == 1 else f"{self.num_documents} documents"
            return f"{self.model} against {self.baseline}: {found} on {documents}, too few to judge"
        interval = f"{self.confidence:.0%} interval {self.low:+.4f} to {self.high:+.4f}"
        basis = f"{found}, {interval}, {self.num_documents} documents"
        if self.verdict == "no_significant_difference":
            return f"no significant difference between {self.model} and {self.baseline} ({basis})"
        return f"{self.model} is {self.verdict} than {self.baseline} ({basis})"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": self.verdict, "sentence": self.sentence}


def min_documents(confidence: float) -> int:
    """Documents below which no interval is given.

    Of fewer documents, even all of them pointing one way happens by chance more often than `1 - confidence`
    (two-sided sign test), yet the bootstrap would call it significant.
    """
    return math.ceil(1 - math.log2(1 - confidence))


def bits_per_byte(nats: Array, num_bytes: Array) -> float:
    """Bits per byte of all documents together. [D], [D]"""
    return float(nats.sum() / num_bytes.sum() / math.log(2))


def compare(
    *,
    model: str,
    baseline: str,
    nats_model: Array,
    nats_baseline: Array,
    num_bytes: Array,
    num_resamples: int,
    confidence: float,
    seed: int,
) -> Comparison:
    """Compare two models on the same documents.

    Documents are drawn with replacement, both models' scores together, so what makes a document easy for both
    cancels. A resample's difference is weighted by bytes, like the reported one.

    Args:
        nats_model, nats_baseline: [D].
        num_bytes: [D].

    Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile interval).
    """
    differences_D = nats_model - nats_baseline
    difference = bits_per_byte(differences_D, num_bytes)
    low = high = None
    if len(num_bytes) >= min_documents(confidence):
        resampled_R = _resample(differences_D, num_bytes, num_resamples=num_resamples, seed=seed)
        margin = (1.0 - confidence) / 2
        low, high = (float(value) for value in np.quantile(resampled_R, [margin, 1.0 - margin]))
    return Comparison(
        model=model,
        baseline=baseline,
        num_documents=len(num_bytes),
        confidence=confidence,
        difference=difference,
        low=low,
        high=high,
    )


def _resample(differences_D: Array, num_bytes_D: Array, *, num_resamples: int, seed: int) -> Array:
    """Difference in bits per byte of every resample. [R]"""
    rng = np.random.default_rng(seed)
    num_documents = len(num_bytes_D)
    at_once = max(1, _MAX_DRAWS_AT_ONCE // num_documents)
    parts = []
    for start in range(0, num_resamples, at_once):
        drawn = rng.integers(num_documents, size=(min(at_once, num_resamples - start), num_documents))
        parts.append(differences_D[drawn].sum(axis=1) / num_bytes_D[drawn].sum(axis=1))
    return np.concatenate(parts) / math.log(2)
