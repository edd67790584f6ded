"""The reference's fused rows, seen through its loss, which it computes in bf16: agreement is to about 1 %."""

import gzip
import json
from typing import Any

import numpy as np
import pytest

from fusion.blending.mixing import mix_rows
from fusion.blending.rules import share_out
from fusion.blending.sparse_rows import SparseRows, normalise
from fusion.spec import BlendingSpec
from tests.fusion.blending.rows_by_hand import entries_of, rows_of
from tests.support.tiny_models import GOLDEN

NAMES = ["target", "first", "second"]
Table = list[list[tuple[int, float]]]


def golden_cases() -> list[dict[str, Any]]:
    with gzip.open(GOLDEN / "loss_cases.jsonl.gz", "rt") as file:
        return [case for case in map(json.loads, file) if case["lm_loss_weight"] == 0.0]


def table_of(features: dict[str, Any], logits: str, indices: str) -> Table:
    return [
        list(zip(ids, np.exp(values).tolist(), strict=True))
        for ids, values in zip(features[indices], features[logits], strict=True)
    ]


def speakers_of(features: dict[str, Any]) -> list[SparseRows]:
    own = table_of(features, "per_step_logits", "per_step_indices")
    tables = [own]
    for number in (0, 1):
        aligned = table_of(
            features, f"per_step_aligned_logits_{number}", f"per_step_aligned_indices_{number}"
        )
        # The reference fills a row that lost everything with the target's own.
        tables.append([row or stand_in for row, stand_in in zip(aligned, own, strict=True)])
    return [normalise(rows_of(table), totals=np.ones(len(table)), renormalise=True) for table in tables]


@pytest.mark.parametrize("case", golden_cases(), ids=lambda case: f"{case['fusion']}-{case['divergence']}")
def test_blended_rows_give_the_references_loss(case: dict[str, Any]) -> None:
    features = case["features"]
    logits = np.load(GOLDEN / "loss_logits.npz")["logits"][case["logits_index"]].astype(np.float64)
    spec = BlendingSpec(rule=case["fusion"], score="ce_per_token", avg_ce_weights="softmax_exp_negative")
    scores = [features["metric_ce"], features["metric_ce_aligned_0"], features["metric_ce_aligned_1"]]
    rows_S = speakers_of(features)
    num_rows = rows_S[0].num_rows

    shares_ST = share_out(
        np.repeat(np.array(scores)[:, None], num_rows, axis=1), spec=spec, speaker_names=NAMES
    )
    rows = mix_rows(
        rows_S,
        shares_ST=shares_ST,
        voices_ST=np.ones((3, num_rows), dtype=bool),
        vocabulary_size=logits.shape[1],
    ).rows

    assert divergence(logits, rows, case) == pytest.approx(case["loss"], rel=0.01)


def divergence(logits_TV: np.ndarray, rows: SparseRows, case: dict[str, Any]) -> float:
    """Mean over the attended positions, not shifted, as in the reference."""
    log_q_TV = logits_TV - np.logaddexp.reduce(logits_TV, axis=1, keepdims=True)
    attended = np.flatnonzero(case["features"]["attention_mask"])
    total = 0.0
    for row in attended:
        for token_id, weight in entries_of(rows, int(row)):
            total += weight * (
                (np.log(weight) if case["divergence"] == "kl" else 0.0) - log_q_TV[row, token_id]
            )
    return float(total) / len(attended)
