"""A Llama-shaped model with random weights on a device: training steps, a capture, a bare forward pass."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from torch.profiler import ProfilerActivity, profile

from benchmarks.process_memory import peak_bytes, reset_peak
from benchmarks.training_block import OBJECTIVES, Method, write_block
from fusion.extraction.batch_budget import TokenBudget
from fusion.extraction.capturing import CaptureSettings, PaddingCount, capture_shard
from fusion.extraction.logit_rows import LogitRows, default_rows_per_chunk
from fusion.extraction.shard_text import ShardText
from fusion.spec import TrainingSpec
from fusion.training.batches import MicroBatch, collate
from fusion.training.loader import LessonReader
from fusion.training.optimiser import build_optimiser
from fusion.training.student import make_student

_PRODUCTS = ("mm", "bmm", "addmm", "addmm_", "baddbmm", "linear")
_ATTENTION = ("_scaled_dot_product", "_flash_attention", "_efficient_attention")


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuSizes:
    """A model and a micro-batch of `num_windows` windows of `num_tokens` tokens."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_key_value_heads: int
    num_tokens: int
    num_windows: int
    repetitions: int


class GpuModel:
    """fp32 weights, compute in bf16, AdamW: as the stage trains on a GPU; extraction in bf16 throughout."""

    def __init__(self, folder: Path, sizes: GpuSizes, *, vocabulary_size: int, device: torch.device) -> None:
        self.device = device
        self.sizes = sizes
        self.config = hf.LlamaConfig(
            vocab_size=vocabulary_size,
            hidden_size=sizes.hidden_size,
            intermediate_size=sizes.intermediate_size,
            num_hidden_layers=sizes.num_layers,
            num_attention_heads=sizes.num_heads,
            num_key_value_heads=sizes.num_key_value_heads,
            max_position_embeddings=sizes.num_tokens,
            tie_word_embeddings=False,
        )
        write_block(
            folder,
            num_tokens=sizes.num_tokens,
            vocabulary_size=vocabulary_size,
            num_windows=sizes.num_windows,
        )
        self._reader = LessonReader(folder)
        torch.manual_seed(0)
        with torch.device(device):
            model: Any = hf.AutoModelForCausalLM.from_config(self.config, dtype=torch.float32)
        self._model = model
        self._student = make_student(model)
        self._optimiser = build_optimiser(model, TrainingSpec())
        self._extracted: Any = None

    @property
    def num_batch_tokens(self) -> int:
        return self.sizes.num_tokens * self.sizes.num_windows

    def step(self, method: Method) -> None:
        """Read, collate, forward, loss, backward, clip and update; nothing in it waits for the device."""
        batch = self._batch()
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = self._loss(batch, method)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)

    def start_extraction(self) -> None:
        """Drop what training holds and turn the weights to bf16."""
        del self._optimiser
        self._model = self._model.to(torch.bfloat16).eval()
        self._extracted = LogitRows(
            self._model,
            rows_per_chunk=default_rows_per_chunk(self.config.vocab_size, device=self.device, sampled=False),
        )

    def capture(self) -> None:
        """Run the model over the batch and keep the top 12 and 8 draws of the tail of every row."""
        capture_shard(
            self._text(),
            model=self._extracted,
            device=self.device,
            settings=CaptureSettings(
                num_valid_ids=self.config.vocab_size, top_k=12, num_tail_samples=8, seed=0
            ),
            budget=TokenBudget(max_tokens=self.num_batch_tokens),
            padding=PaddingCount(),
            on_batch=lambda num_windows, num_rows: None,
        )

    @torch.inference_mode()
    def forward(self) -> None:
        """The same batch through the model, its logits thrown away."""
        self._model(self._batch().input_ids_BT, use_cache=False)

    def _batch(self) -> MicroBatch:
        batch = collate([self._reader.read(number) for number in range(self.sizes.num_windows)])
        return (batch.pin_memory() if self.device.type == "cuda" else batch).to(self.device)

    def _loss(self, batch: MicroBatch, method: Method) -> torch.Tensor:
        if method == "transformers":
            ids_BT = batch.input_ids_BT
            loss: torch.Tensor = self._model(input_ids=ids_BT, labels=ids_BT, use_cache=False).loss
            return loss
        return self._student.losses(batch, objective=OBJECTIVES[method]).total / self.num_batch_tokens

    def _text(self) -> ShardText:
        ids = np.concatenate(
            [self._reader.read(number).token_ids_T for number in range(self.sizes.num_windows)]
        )
        return ShardText(
            window_starts=np.arange(self.sizes.num_windows + 1, dtype=np.int64) * self.sizes.num_tokens,
            input_ids=ids,
            next_ids=np.roll(ids, -1),
            ends=np.arange(len(ids), dtype=np.uint32),
            digests=tuple(bytes([number]) for number in range(self.sizes.num_windows)),
            num_lossy_windows=0,
        )


def peak_memory_bytes(device: torch.device, work: Callable[[], object]) -> int:
    """The most the device (on a CPU: the process) holds while `work` runs, weights included."""
    if device.type != "cuda":
        reset_peak()
        work()
        return peak_bytes()
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device))


def matrix_product_share(device: torch.device, work: Callable[[], object]) -> tuple[float, dict[str, float]]:
    """Share of the device's time in matrix products and attention; seconds of the ten longest operations."""
    is_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_gpu else [])]
    with profile(activities=activities) as profiled:
        work()
        if is_gpu:
            torch.cuda.synchronize(device)
    seconds_of = {
        event.key: (event.self_device_time_total if is_gpu else event.self_cpu_time_total) / 1e6
        for event in profiled.key_averages()
        # Kernels appear again below the operation that started them.
        if event.key.startswith("aten::")
    }
    total = sum(seconds_of.values())
    products = sum(seconds for key, seconds in seconds_of.items() if is_matrix_product(key))
    longest = sorted(seconds_of.items(), key=lambda item: -item[1])[:10]
    return products / total, {key: round(seconds, 6) for key, seconds in longest}


def is_matrix_product(operation: str) -> bool:
    """Whether an operation's own time is spent in matrix products."""
    name = operation.removeprefix("aten::")
    return name in _PRODUCTS or name.startswith(_ATTENTION)
