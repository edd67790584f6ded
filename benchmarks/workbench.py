"""What the rows share: the spec, the corpus in windows, tokenizers and models."""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from benchmarks.materials import NAMES, SOURCES, Materials
from benchmarks.sizes import Sizes
from fusion.corpus.windowing import Reader, cut_document
from fusion.extraction.batch_budget import MAX_TOKENS, TokenBudget
from fusion.extraction.capturing import CaptureSettings, PaddingCount, capture_shard
from fusion.extraction.logit_rows import LogitRows, default_rows_per_chunk
from fusion.extraction.shard_text import ShardText, encode_shard
from fusion.io.captures import Capture
from fusion.io.windows import Window
from fusion.llms.loading import load_model, load_tokenizer, pick_device
from fusion.llms.token_bytes import TextEncoder
from fusion.spec import FusionSpec, Preset


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A model, and its rows as extraction reads them. `name`: whose tokenizer it reads with."""

    name: str
    network: PreTrainedModel
    logit_rows: LogitRows
    num_valid_ids: int


class Workbench:
    """One run's materials, each made when a row first asks for it.

    scratch: a folder that is removed after the run. peak_tflops: of the GPU, where stated.
    """

    def __init__(
        self, sizes: Sizes, materials: Materials, scratch: Path, *, peak_tflops: float | None = None
    ) -> None:
        self.sizes = sizes
        self.materials = materials
        self.scratch = scratch
        self.peak_tflops = peak_tflops
        self._device = pick_device()

    def spec(self, preset: Preset) -> FusionSpec:
        """A job over the whole corpus with all three models."""
        paths = {name: str(folder) for name, folder in self.materials.checkpoints.items()}
        data: dict[str, Any] = {
            "api_version": "fusion/v1",
            "name": "benchmark",
            "sources": [{"name": name, "model": {"path": paths[name]}} for name in SOURCES],
            "target": {"model": {"path": paths["target"]}},
            "corpus": {
                "files": [{"path": str(self.materials.corpus)}],
                "max_tokens_per_window": self.sizes.max_tokens_per_window,
                "held_out_fraction": 0.15,
            },
            "strategy": {"preset": preset},
            "training": {"sequences_per_step": 8},
            "evaluation": {"control": False},
        }
        return FusionSpec.model_validate(data)

    @cached_property
    def encoders(self) -> dict[str, TextEncoder]:
        return {name: TextEncoder(load_tokenizer(self.materials.checkpoints[name])) for name in NAMES}

    @cached_property
    def windows(self) -> list[Window]:
        """The corpus in windows that every tokenizer reads within the limit, start and end token included."""
        max_tokens = self.sizes.max_tokens_per_window
        readers = [Reader(encoder=self.encoders[name], max_tokens=max_tokens - 2) for name in NAMES]
        windows = []
        for number, line in enumerate(self.materials.corpus.read_text(encoding="utf-8").splitlines()):
            cuts = list(cut_document(json.loads(line)["text"], readers=readers, max_tokens=max_tokens))
            windows += [
                Window(document=number, domain="code", text=cut.text, ends_document=cut is cuts[-1])
                for cut in cuts
            ]
        return windows

    def text(self, name: str, windows: list[Window]) -> ShardText:
        """The windows as one model reads them."""
        encoder = self.encoders[name]
        if encoder.start_id is None:
            raise ValueError(f"the tokenizer of {name} has no start token")
        return encode_shard(windows, encoder=encoder, start_id=encoder.start_id)

    def model(self, name: str) -> Model:
        """A checkpoint, loaded anew."""
        network = load_model(self.materials.checkpoints[name], dtype="auto", device=self._device)
        return self._as_model(name, network, num_valid_ids=self.encoders[name].size)

    def random_model(self, *, hidden_size: int, num_layers: int, vocabulary_size: int) -> Model:
        """A model of another shape that reads the target's tokens, as far as its vocabulary holds them."""
        config = LlamaConfig(
            vocab_size=vocabulary_size,
            hidden_size=hidden_size,
            intermediate_size=hidden_size * 8 // 3,
            num_hidden_layers=num_layers,
            num_attention_heads=4,
            max_position_embeddings=self.sizes.max_tokens_per_window + 2,
        )
        network = AutoModelForCausalLM.from_config(config).to(self._device).eval()
        return self._as_model("target", network, num_valid_ids=vocabulary_size)

    def _as_model(self, name: str, network: PreTrainedModel, *, num_valid_ids: int) -> Model:
        rows_per_chunk = default_rows_per_chunk(network.config.vocab_size, device=self._device, sampled=False)
        logit_rows = LogitRows(network, rows_per_chunk=rows_per_chunk)
        return Model(name=name, network=network, logit_rows=logit_rows, num_valid_ids=num_valid_ids)

    def capture(
        self,
        model: Model,
        windows: list[Window],
        *,
        logit_rows: Any = None,
        padding: PaddingCount | None = None,
    ) -> Capture:
        """Tokenise the windows and run a model over them as the stage does for one shard."""
        strategy = self.spec("default").strategy
        return capture_shard(
            _within(self.text(model.name, windows), model.num_valid_ids),
            model=logit_rows or model.logit_rows,
            device=self._device,
            settings=CaptureSettings(
                num_valid_ids=model.num_valid_ids,
                top_k=strategy.extraction.top_k,
                num_tail_samples=strategy.num_tail_samples,
                seed=0,
            ),
            budget=TokenBudget(max_tokens=MAX_TOKENS[self._device.type]),
            padding=padding or PaddingCount(),
            on_batch=lambda num_windows, num_rows: None,
        )


def _within(text: ShardText, num_valid_ids: int) -> ShardText:
    """The text with all ids below the limit: for speed only their number counts."""
    next_ids = np.where(text.next_ids < 0, text.next_ids, text.next_ids % num_valid_ids)
    return replace(text, input_ids=text.input_ids % num_valid_ids, next_ids=next_ids)
