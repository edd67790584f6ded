"""What the report says, from made-up scores."""

import math

import numpy as np
import pytest

from fusion.evaluation.documents import HeldOutDocument
from fusion.evaluation.report import build_report
from fusion.evaluation.scoring import DocumentScores
from fusion.spec import EvaluationSpec

DOCUMENTS = [
    HeldOutDocument(number=n, domain=domain, windows=("x" * size,))
    for n, (domain, size) in enumerate([("code", 100), ("prose", 200), ("code", 300), ("prose", 400)] * 2)
]
BYTES = np.array([100.0, 200.0, 300.0, 400.0] * 2)
SETTINGS = EvaluationSpec(bootstrap_resamples=200)


def scores(bits: float, *, lossy: int | None = None, not_finite: int | None = None) -> DocumentScores:
    nats = bits * math.log(2) * BYTES
    lossless = np.ones(8, bool)
    if lossy is not None:
        lossless[lossy] = False
    if not_finite is not None:
        nats[not_finite] = math.nan
    return DocumentScores(nats=nats, num_tokens=np.array([25, 50, 75, 100] * 2), lossless=lossless)


def report(**found: DocumentScores) -> dict:
    return build_report(DOCUMENTS, found, settings=SETTINGS, seed=0)


def test_figures_per_domain_and_overall():
    found = report(target=scores(2.0), control=scores(1.5), fused=scores(1.4))

    assert found["overall"]["documents"] == 8
    assert found["overall"]["bytes"] == 2000
    assert found["overall"]["models"]["target"]["bits_per_byte"] == pytest.approx(2.0)
    assert found["overall"]["models"]["target"]["perplexity_per_token"] == pytest.approx(2.0**8)
    assert {name: section["bytes"] for name, section in found["domains"].items()} == {
        "code": 800,
        "prose": 1200,
    }


def test_fused_is_compared_with_control_and_target():
    found = report(target=scores(2.0), control=scores(1.5), fused=scores(1.6))["overall"]["comparisons"]

    assert [(c["baseline"], c["verdict"]) for c in found] == [("control", "worse"), ("target", "better")]
    assert found[0]["difference"] == pytest.approx(0.1)


def test_without_control_only_the_target_is_compared():
    found = report(target=scores(2.0), fused=scores(1.6))

    assert [c["baseline"] for c in found["overall"]["comparisons"]] == ["target"]


def test_documents_the_target_cannot_read_are_left_out_for_all():
    found = report(target=scores(2.0, lossy=1), mpt=scores(1.0, lossy=1), fused=scores(1.5, not_finite=2))

    assert found["num_excluded_documents"] == 2
    assert found["excluded"]["target"] == {"lossy_documents": 1, "not_finite_documents": 0}
    assert found["excluded"]["fused"] == {"lossy_documents": 0, "not_finite_documents": 1}
    assert found["overall"]["bytes"] == 1500
    assert found["overall"]["models"]["target"]["tokens"] == 375


def test_a_source_without_a_number_hides_nothing_of_the_others():
    broken = scores(1.0)
    broken.nats[:] = math.nan

    found = report(target=scores(2.0), mpt=broken, prose=scores(1.0, lossy=1), fused=scores(1.5))["overall"]

    assert (found["documents"], found["comparisons"][0]["verdict"]) == (8, "better")
    assert found["models"]["mpt"]["bits_per_byte"] is None
    assert found["models"]["prose"]["documents"] == 7
    assert found["models"]["prose"]["bits_per_byte"] == pytest.approx(1.0)


def test_nothing_left_gives_no_figures():
    found = build_report([], {"target": _none()}, settings=SETTINGS, seed=0)

    assert found["overall"]["models"]["target"]["bits_per_byte"] is None
    assert found["overall"]["comparisons"] == []


def _none() -> DocumentScores:
    return DocumentScores(nats=np.zeros(0), num_tokens=np.zeros(0, np.int64), lossless=np.ones(0, bool))
