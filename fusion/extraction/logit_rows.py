"""Logits of the rows that count, a bounded number at a time.

Letters: `B` sequences, `T` positions, `H` hidden size, `R` rows that count, `V` rows of the output head.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedModel

_MAX_CHUNK_BYTES = {"cpu": 64 << 20, "cuda": 256 << 20}
"""On a CPU the logits alone then take 32 MiB, the largest piece that glibc keeps for the next chunk."""
_MIN_CHUNK_ROWS = 128
"""Fewer would leave the output head's matrix product waiting for memory."""
_MAX_PART_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}
"""What is made of a part of a chunk then stays in a CPU's caches, and in memory that malloc keeps: larger
pieces go back to the system and are faulted in again page by page, which takes longer than the arithmetic."""


def default_rows_per_chunk(vocabulary_size: int, *, device: torch.device, sampled: bool) -> int:
    """Rows whose logits are held at a time: fp32 and a copy; sampling needs two fp64 copies on top."""
    bytes_per_row = vocabulary_size * (4 + 4 + (16 if sampled else 0))
    return max(_MIN_CHUNK_ROWS, _MAX_CHUNK_BYTES[device.type] // bytes_per_row)


class LogitRows:
    """Runs a model so that the logits of a batch never exist all at once, where its structure allows that.

    The backbone runs over the batch, the output head over chunks of rows. Some models do more than apply
    the head (scaling, soft caps), so the split is used only where a probe gives equal logits.
    """

    def __init__(self, model: PreTrainedModel, *, probe_ids: list[int], rows_per_chunk: int) -> None:
        self._model = model
        self._rows_per_chunk = rows_per_chunk
        self.is_split = self._split_agrees(torch.tensor([probe_ids], device=model.device))

    @torch.inference_mode()
    def chunks(self, input_ids_BT: Tensor, *, is_real_BT: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """(rows, logits [rows, V]) over the real positions, sequence by sequence.

        Args:
            is_real_BT: bool; false at the padding, which is on the right.
        """
        source_BTX = self._hidden(input_ids_BT) if self.is_split else self._logits(input_ids_BT)
        source_RX = source_BTX[is_real_BT]
        for start in range(0, len(source_RX), self._rows_per_chunk):
            chunk_RX = source_RX[start : start + self._rows_per_chunk]
            yield from _parts(self._head(chunk_RX) if self.is_split else chunk_RX, first_row=start)

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


def _parts(logits_RV: Tensor, *, first_row: int) -> Iterator[tuple[slice, Tensor]]:
    rows_per_part = max(1, _MAX_PART_BYTES[logits_RV.device.type] // logits_RV[0].nbytes)
    for part_RV in logits_RV.split(rows_per_part):
        yield slice(first_row, first_row + len(part_RV)), part_RV
        first_row += len(part_RV)
