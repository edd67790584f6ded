"""Scores equal a forward pass over each window alone, with a real model and tokenizer."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from fusion.errors import CapacityError
from fusion.evaluation import scoring
from fusion.evaluation.documents import HeldOutDocument
from fusion.evaluation.scoring import DocumentScores, score_documents
from fusion.llms.loading import load_tokenizer
from fusion.llms.token_bytes import TextEncoder
from tests.support.tiny_models import save_tiny_checkpoint

CPU = torch.device("cpu")
TEXTS = [("Hello world, once more.", " And again"), ("def f(x):\n    return x",), ("short",), ("",)]
DOCUMENTS = [
    HeldOutDocument(number=number, domain="prose", windows=windows) for number, windows in enumerate(TEXTS)
]


class Reader:
    """A tiny model with its encoder."""

    def __init__(self, folder, family: str, tokenizer: str) -> None:
        path = save_tiny_checkpoint(folder, family=family, tokenizer=tokenizer)
        self.model = AutoModelForCausalLM.from_pretrained(path).eval()
        self.encoder = TextEncoder(load_tokenizer(path))
        self.done = 0

    def score(self) -> DocumentScores:
        return score_documents(
            self.model,
            self.encoder,
            DOCUMENTS,
            start_id=self.encoder.start_id,
            device=CPU,
            on_windows=self._count,
        )

    def _count(self, num_windows: int) -> None:
        self.done += num_windows

    def nats_alone(self, text: str) -> float:
        ids = torch.tensor(self.encoder.encode(text).ids).long()
        if not len(ids):
            return 0.0
        inputs = torch.cat([torch.tensor([self.encoder.start_id]), ids])
        with torch.no_grad():
            logits = self.model(input_ids=inputs.unsqueeze(0)).logits[0, :-1, : self.encoder.size].double()
        return float(torch.nn.functional.cross_entropy(logits, ids, reduction="sum"))


@pytest.fixture(params=[("llama", "llama_like"), ("mpt", "mpt_like"), ("gpt_neox", "mpt_like")])
def reader(request, tmp_path) -> Reader:
    return Reader(tmp_path / "model", *request.param)


def test_batched_scores_equal_windows_alone(reader):
    scores = reader.score()

    expected = [sum(reader.nats_alone(text) for text in windows) for windows in TEXTS]
    np.testing.assert_allclose(scores.nats, expected, rtol=1e-5)
    assert scores.lossless.all()
    tokens = [sum(len(reader.encoder.encode(text).ids) for text in windows) for windows in TEXTS]
    assert scores.num_tokens.tolist() == tokens
    assert reader.done == sum(len(windows) for windows in TEXTS)


def test_batch_size_changes_only_rounding(reader, monkeypatch):
    together = reader.score()
    monkeypatch.setitem(scoring._MAX_LOGIT_BYTES, "cpu", 1)
    monkeypatch.setattr(scoring, "_FP32_CHUNK_BYTES", 1)

    alone = reader.score()

    np.testing.assert_allclose(alone.nats, together.nats, rtol=1e-5)


def test_lossy_document_is_marked_and_not_scored(tmp_path):
    reader = Reader(tmp_path / "model", "llama", "llama_like")
    encode = reader.encoder.encode
    reader.encoder.encode = lambda text: _lossy(encode(text)) if text == "short" else encode(text)

    scores = reader.score()

    assert scores.lossless.tolist() == [True, True, False, True]
    assert scores.nats[2] == 0


def _lossy(encoded):
    return replace(encoded, lossless=False)


def test_logits_that_are_no_numbers_show_in_the_score(tmp_path):
    reader = Reader(tmp_path / "model", "llama", "llama_like")
    with torch.no_grad():
        reader.model.model.norm.weight[0] = math.nan

    assert np.isnan(reader.score().nats[:3]).all()


def test_out_of_memory_backs_off_to_one_window(tmp_path):
    reader = Reader(tmp_path / "model", "llama", "llama_like")
    expected = reader.score()

    def limit(_module, _args, kwargs) -> None:
        if len(kwargs["input_ids"]) > 1:
            raise torch.OutOfMemoryError("no room")

    reader.model.register_forward_pre_hook(limit, with_kwargs=True)

    np.testing.assert_allclose(reader.score().nats, expected.nats, rtol=1e-5)


def test_a_window_that_never_fits_is_a_capacity_error(tmp_path):
    reader = Reader(tmp_path / "model", "llama", "llama_like")

    def fail(*_args) -> None:
        raise torch.OutOfMemoryError("no room")

    reader.model.register_forward_pre_hook(fail)

    with pytest.raises(CapacityError):
        reader.score()
