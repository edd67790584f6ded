"""One block of lessons, and steps on it with fusion and without."""

import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers as hf

from benchmarks.sizes import TrainedShape
from fusion.io.captures import shard_folder
from fusion.io.lessons import Lessons, write_lessons
from fusion.training.batches import Schedule, collate
from fusion.training.feed import Feed
from fusion.training.loader import LessonReader
from fusion.training.losses import Objective
from fusion.training.student import make_student

Method = Literal["fused", "control", "transformers"]

NUM_ENTRIES = 60
"""Of every row: three sources with 12 entries and 8 draws each, none in common, is the most that can be."""
OBJECTIVES = {
    "fused": Objective(clm_weight=0.9, divergence="ce", tail="bucket"),
    "control": Objective(clm_weight=1.0, divergence="ce", tail="bucket"),
}


def write_block(folder: Path, *, num_tokens: int, vocabulary_size: int, num_windows: int = 1) -> None:
    """An align folder with windows of one length, every row taught. Made-up rows cost what real ones do."""
    random = np.random.default_rng(0)
    window_starts = np.arange(num_windows + 1, dtype=np.int64) * num_tokens
    num_tokens *= num_windows
    weights = random.dirichlet(np.full(NUM_ENTRIES + 1, 0.3), size=num_tokens)
    step = vocabulary_size // NUM_ENTRIES
    ids = random.integers(0, step, size=(num_tokens, 1)) + step * np.arange(NUM_ENTRIES)
    lessons = Lessons(
        window_starts=window_starts,
        token_ids=random.integers(0, vocabulary_size, size=num_tokens).astype(np.int32),
        row_starts=np.arange(num_tokens + 1, dtype=np.int64) * NUM_ENTRIES,
        entry_ids=ids.astype(np.int32).ravel(),
        entry_weights=weights[:, :-1].astype(np.float16).ravel(),
        tails=weights[:, -1].astype(np.float16),
        speakers=np.full(num_tokens, -2, dtype=np.int8),
        rivals=np.full(num_tokens, -2, dtype=np.int8),
        rival_nats=np.ones(num_tokens, dtype=np.float16),
    )
    write_lessons(shard_folder(folder, 0), lessons, meta={})


class BlockTrainer:
    """A Llama-shaped model and one block: forward, loss and backward, the data read anew each time."""

    def __init__(self, folder: Path, shape: TrainedShape) -> None:
        self.reader = LessonReader(folder)
        self._tokens = LessonReader(folder, with_entries=False)
        torch.manual_seed(0)
        config = hf.LlamaConfig(
            vocab_size=shape.vocabulary_size,
            hidden_size=shape.hidden_size,
            intermediate_size=shape.hidden_size * 8 // 3,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=4,
            max_position_embeddings=int(self.reader.num_tokens_of[0]),
        )
        model: Any = hf.AutoModelForCausalLM.from_config(config)
        self._model = model
        self._student = make_student(model)

    def step(self, method: Method) -> float:
        """One step but for the optimiser's update, the same for all; returns the mean loss in nats."""
        loss = self._transformers_loss() if method == "transformers" else self._engine_loss(method)
        loss.backward()
        self._model.zero_grad(set_to_none=True)
        return loss.item()

    def fed_steps(self, num_steps: int) -> tuple[list[float], list[float]]:
        """Steps as the stage takes them, after one to warm up: seconds waited and in all, of each."""
        schedule = Schedule(
            num_sequences=1, sequences_per_step=1, num_epochs=num_steps + 1, max_steps=None, seed=0
        )
        num_tokens = int(self.reader.num_tokens_of[0])
        waits, totals = [], []
        with Feed(self.reader, schedule, rank=0, num_ranks=1, device=torch.device("cpu")) as feed:
            for step in range(schedule.num_steps):
                waited, began = feed.wait_seconds, time.perf_counter()
                for batch in feed.micro_batches(step, max_tokens=num_tokens):
                    (self._student.losses(batch, objective=OBJECTIVES["fused"]).total / num_tokens).backward()
                self._model.zero_grad(set_to_none=True)
                totals.append(time.perf_counter() - began)
                waits.append(feed.wait_seconds - waited)
        return waits[1:], totals[1:]

    def _engine_loss(self, method: Literal["fused", "control"]) -> torch.Tensor:
        reader = self.reader if method == "fused" else self._tokens
        batch = collate([reader.read(0)])
        num_labels = int(reader.num_tokens_of[0]) - 1
        return self._student.losses(batch, objective=OBJECTIVES[method]).total / num_labels

    def _transformers_loss(self) -> torch.Tensor:
        token_ids = torch.from_numpy(self._tokens.read(0).token_ids_T.astype(np.int64))[None]
        loss: torch.Tensor = self._model(input_ids=token_ids, labels=token_ids, use_cache=False).loss
        return loss
