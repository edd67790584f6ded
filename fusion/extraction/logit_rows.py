"""Logits of the rows that count, a bounded number at a time.

Letters: `B` sequences, `T` positions, `H` hidden size, `R` rows that count, `V` rows of the output head.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fusion.extraction.head_threads import HeadThreads

_MAX_CHUNK_BYTES = {"cpu": 24 << 20, "cuda": 256 << 20}
"""On a CPU, less than the 32 MiB up to which glibc keeps a piece of memory for the next chunk: larger ones go
back to the system and are faulted in again page by page, which takes longer than the arithmetic."""
_MIN_CHUNK_ROWS = {"cpu": 64, "cuda": 128}
"""Fewer would leave the output head's matrix product waiting for memory."""

Keep = Callable[[slice, Tensor], None]


def default_rows_per_chunk(vocabulary_size: int, *, device: torch.device, sampled: bool) -> int:
    """Rows whose logits are held at a time, by each thread: in fp32, which a CPU reduces in place.

    A GPU needs a copy; sampling needs two in fp64 on top.
    """
    bytes_per_logit = 4 if device.type == "cpu" else 8 + (16 if sampled else 0)
    num_rows = _MAX_CHUNK_BYTES[device.type] // (vocabulary_size * bytes_per_logit)
    return max(_MIN_CHUNK_ROWS[device.type], num_rows)


class LogitRows:
    """Runs a model so that the logits of a batch never exist all at once, where its structure allows that.

    The backbone runs over the batch, the output head over chunks of rows. Some models do more than apply
    the head (scaling, soft caps), so the split is used only where a probe gives equal logits.
    """

    def __init__(self, model: PreTrainedModel, *, probe_ids: list[int], rows_per_chunk: int) -> None:
        self._model = model
        self._rows_per_chunk = rows_per_chunk
        self._threads = HeadThreads(torch.get_num_threads() if model.device.type == "cpu" else 1)
        self.is_split = self._split_agrees(torch.tensor([probe_ids], device=model.device))

    @property
    def chunk_bytes(self) -> int:
        """What all chunks take that are held at a time."""
        vocabulary_size: int = self._model.config.vocab_size
        bytes_per_logit = 4 if self._model.device.type == "cpu" else 8
        return self._threads.num_threads * self._rows_per_chunk * vocabulary_size * bytes_per_logit

    @torch.inference_mode()
    def visit(self, input_ids_BT: Tensor, *, is_real_BT: Tensor, keep: Keep) -> None:
        """Call `keep(rows, logits [rows, V])` for all real positions, counted sequence by sequence.

        On a CPU several threads call it at once, each with rows of its own.

        Args:
            is_real_BT: bool; false at the padding, which is on the right.
        """
        source_RX = self.run_backbone(input_ids_BT)[is_real_BT]

        @torch.inference_mode()
        def visit_from(start: int) -> None:
            chunk_RX = source_RX[start : start + self._rows_per_chunk]
            logits_RV = self._head(chunk_RX) if self.is_split else chunk_RX
            keep(slice(start, start + len(chunk_RX)), logits_RV)

        self._threads.run(visit_from, range(0, len(source_RX), self._rows_per_chunk))

    @torch.inference_mode()
    def run_backbone(self, input_ids_BT: Tensor) -> Tensor:
        """What the chunks are made of: hidden states [B, T, H]; logits where the head is not split off."""
        return self._hidden(input_ids_BT) if self.is_split else self._logits(input_ids_BT)

    @torch.inference_mode()
    def _split_agrees(self, probe_1T: Tensor) -> bool:
        if self._model.get_output_embeddings() is None or self._model.base_model is self._model:
            return False
        split_1TV = self._head(self._hidden(probe_1T))
        return torch.equal(split_1TV, self._logits(probe_1T))

    # No mask and no position_ids: padding is on the right, where a causal model's real positions never look.
    # A mask would also cost the attention its faster path.
    def _hidden(self, input_ids_BT: Tensor) -> Tensor:
        hidden_BTH: Tensor = self._model.base_model(input_ids_BT, use_cache=False)[0]
        return hidden_BTH

    def _head(self, hidden_RH: Tensor) -> Tensor:
        logits_RV: Tensor = self._model.get_output_embeddings()(hidden_RH)
        return logits_RV

    def _logits(self, input_ids_BT: Tensor) -> Tensor:
        logits_BTV: Tensor = self._model(input_ids_BT, use_cache=False).logits
        return logits_BTV
