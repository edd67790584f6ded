"""The reference's 32 recorded losses, recomputed with the sparse loss.

The reference shifts labels for CLM but not rows for the divergence, which it averages over the attention
mask; it computes target rows in bf16 (agreement to 1 %), our dense form does so in fp32 (agreement to 1e-5).
"""

import gzip
import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion.training.losses import NO_ID, sparse_cross_entropy, sparse_kl_divergence
from tests.support.tiny_models import GOLDEN

with gzip.open(GOLDEN / "loss_cases.jsonl.gz", "rt") as file:
    CASES = [json.loads(line) for line in file]
LOGITS = np.load(GOLDEN / "loss_logits.npz")["logits"]
SOURCES = [
    ("per_step_{}", "metric_ce"),
    *((f"per_step_aligned_{{}}_{s}", f"metric_ce_aligned_{s}") for s in (0, 1)),
]


def source_rows(features: dict, name: str) -> list[dict[int, float]]:
    """Target rows of one source: softmax over its kept logits; an empty row is the target model's own."""
    rows = []
    for position, logits in enumerate(features[name.format("logits")]):
        ids = features[name.format("indices")][position]
        if not logits:
            logits, ids = features["per_step_logits"][position], features["per_step_indices"][position]
        rows.append(dict(zip(ids, torch.tensor(logits).softmax(-1).tolist(), strict=True)))
    return rows


def blended_rows(case: dict) -> list[dict[int, float]]:
    """min_ce: the row of the best source; avg_ce: the reference's softmax(exp(-CE)) mixture."""
    features = case["features"]
    scores = [features[metric] for _, metric in SOURCES]
    if case["fusion"] == "min_ce":
        return source_rows(features, SOURCES[scores.index(min(scores))][0])
    weights = torch.tensor([math.exp(-score) for score in scores]).softmax(-1).tolist()
    blended: list[dict[int, float]] = [{} for _ in features["input_ids"]]
    for weight, (name, _) in zip(weights, SOURCES, strict=True):
        for row, source in zip(blended, source_rows(features, name), strict=True):
            for token_id, probability in source.items():
                row[token_id] = row.get(token_id, 0.0) + weight * probability
    return blended


def padded(rows: list[dict[int, float]]) -> tuple[Tensor, Tensor]:
    width = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[NO_ID] * (width - len(row))] for row in rows])
    weights = torch.tensor([[*row.values(), *[0.0] * (width - len(row))] for row in rows])
    return ids, weights


def clm_loss(case: dict, logits: Tensor) -> Tensor:
    labels = torch.tensor(case["features"]["labels"])
    return torch.nn.functional.cross_entropy(logits[:-1], labels[1 : len(logits)])


def loss_of(case: dict, logits: Tensor, divergence: Tensor) -> Tensor:
    mask = torch.tensor(case["features"]["attention_mask"], dtype=torch.float32)
    weight = case["lm_loss_weight"]
    return weight * clm_loss(case, logits) + (1 - weight) * (divergence * mask).sum() / mask.sum()


@pytest.mark.parametrize("index", range(len(CASES)))
def test_agrees_with_the_reference(index):
    case = CASES[index]
    num_tokens = len(case["features"]["input_ids"])
    logits = torch.tensor(LOGITS[case["logits_index"]], dtype=torch.float32)[:num_tokens].requires_grad_()
    rows = blended_rows(case)
    ids, weights = padded(rows)

    divergence = sparse_cross_entropy if case["divergence"] == "ce" else sparse_kl_divergence
    loss = loss_of(case, logits, divergence(logits, ids, weights, tail="renormalise"))
    loss.backward()

    assert loss.item() == pytest.approx(case["loss"], rel=0.01)
    assert logits.grad.norm().item() == pytest.approx(case["grad_norm"], rel=0.01)
    dense = torch.zeros_like(logits).scatter_add(1, ids.clamp(min=0), weights)
    per_row = torch.nn.functional.cross_entropy(logits, dense, reduction="none")
    if case["divergence"] == "kl":
        per_row = per_row + torch.xlogy(dense, dense).sum(-1)
    assert loss.item() == pytest.approx(loss_of(case, logits, per_row).item(), rel=1e-5)
