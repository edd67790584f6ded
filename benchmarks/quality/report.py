"""From scores to tables: bits per byte, and differences with paired intervals.

A document's nats are averaged over the seeds before documents are resampled: an interval says how sure the
difference is for these seeds over other documents; the spread of the seeds stands beside it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fusion.evaluation.comparison import Comparison, bits_per_byte, compare
from fusion.evaluation.documents import HeldOutDocument
from fusion.io.tensors import Array

ScoresOfSeeds = Sequence[Mapping[str, Array]]
"""Per seed: nats of every held-out document, by model or variant."""

OVERALL = "overall"
_NUM_RESAMPLES = 4000
_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One variant against another on the documents of one domain; `of_seeds` are the seeds' own."""

    pooled: Comparison
    of_seeds: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        return self.pooled.to_dict() | {"of_seeds": self.of_seeds}


@dataclass(frozen=True, kw_only=True, slots=True)
class RegimeReport:
    """Everything that is known of one regime."""

    regime: Mapping[str, Any]
    num_documents: Mapping[str, int]
    bits_per_byte: Mapping[str, Mapping[str, float]]
    """By model or variant, then by domain; mean over the seeds."""
    against_control: Mapping[str, Mapping[str, Difference]]
    against_default: Mapping[str, Mapping[str, Difference]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {
            name: {
                variant: {domain: found.to_dict() for domain, found in of_domain.items()}
                for variant, of_domain in getattr(self, name).items()
            }
            for name in ("against_control", "against_default")
        }


def build_report(
    regime: Mapping[str, Any],
    documents: Sequence[HeldOutDocument],
    scores: ScoresOfSeeds,
    *,
    fused: Sequence[str],
    control: str,
    default: str,
    trained_on: Collection[str],
) -> RegimeReport:
    """Compare every fused variant with the control and with the default.

    Left out for all are documents that one of the models does not reproduce, and those that stand word for
    word among the texts that models were `trained_on`: modules copy from each other.
    """
    usable = np.all([np.isfinite(nats) for of_seed in scores for nats in of_seed.values()], axis=0)
    usable &= np.array(["".join(document.windows) not in trained_on for document in documents])
    domain_of = np.array([document.domain for document in documents])
    num_bytes = np.array([document.num_bytes for document in documents])
    rows = {OVERALL: usable} | {domain: usable & (domain_of == domain) for domain in sorted(set(domain_of))}

    def against(baseline: str) -> dict[str, dict[str, Difference]]:
        return {
            name: {
                domain: _difference(scores, name, baseline, num_bytes, rows_D)
                for domain, rows_D in rows.items()
            }
            for name in fused
            if name != baseline
        }

    return RegimeReport(
        regime=regime,
        num_documents={domain: int(rows_D.sum()) for domain, rows_D in rows.items()},
        bits_per_byte={
            name: {
                domain: float(
                    np.mean([bits_per_byte(of_seed[name][rows_D], num_bytes[rows_D]) for of_seed in scores])
                )
                for domain, rows_D in rows.items()
            }
            for name in scores[0]
        },
        against_control=against(control),
        against_default=against(default),
    )


def _difference(
    scores: ScoresOfSeeds, model: str, baseline: str, num_bytes: Array, rows_D: Array
) -> Difference:
    def mean(name: str) -> Array:
        return np.asarray(np.mean([of_seed[name][rows_D] for of_seed in scores], axis=0))

    return Difference(
        pooled=compare(
            model=model,
            baseline=baseline,
            nats_model=mean(model),
            nats_baseline=mean(baseline),
            num_bytes=num_bytes[rows_D],
            num_resamples=_NUM_RESAMPLES,
            confidence=_CONFIDENCE,
            seed=0,
        ),
        of_seeds=tuple(
            bits_per_byte(of_seed[model][rows_D] - of_seed[baseline][rows_D], num_bytes[rows_D])
            for of_seed in scores
        ),
    )


def markdown(report: RegimeReport) -> str:
    """One regime as a table for `docs/quality.md`."""
    domains = list(report.num_documents)
    header = " | ".join(f"{domain} ({report.num_documents[domain]})" for domain in domains)
    lines = [
        f"| model | {header} | against control | seeds | against default |",
        "|---" * (len(domains) + 4) + "|",
    ]
    for name, of_domain in report.bits_per_byte.items():
        figures = " | ".join(f"{of_domain[domain]:.4f}" for domain in domains)
        control, default = report.against_control.get(name), report.against_default.get(name)
        seeds = " ".join(f"{value:+.4f}" for value in control[OVERALL].of_seeds) if control else ""
        lines.append(f"| {name} | {figures} | {_interval(control)} | {seeds} | {_interval(default)} |")
    return "\n".join(lines)


def _interval(of_domain: Mapping[str, Difference] | None) -> str:
    if of_domain is None:
        return ""
    found = of_domain[OVERALL].pooled
    if found.low is None or found.high is None:
        return f"{found.difference:+.4f}"
    mark = {"better": " **better**", "worse": " *worse*"}.get(found.verdict, "")
    return f"{found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f}){mark}"
