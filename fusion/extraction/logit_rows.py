"""Logits of the rows that count, a bounded number at a time.

Letters: `B` sequences, `T` positions, `H` hidden size, `R` rows that count, `V` rows of the output head.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fusion.extraction.head_threads import HeadThreads
from fusion.llms.head_probe import Head, HeadUnfamiliar, probe_head

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

    The backbone runs over the batch, the output head over chunks of rows, with the factor and the soft cap
    that a probe finds. A model that does more than that to its logits is run whole.

    whole_reason: why it is, None where backbone and head are run one after the other.
    """

    def __init__(self, model: PreTrainedModel, *, rows_per_chunk: int) -> None:
        self._model = model
        self._rows_per_chunk = rows_per_chunk
        self._threads = HeadThreads(torch.get_num_threads() if model.device.type == "cpu" else 1)
        self._head: Head | None = None
        self.whole_reason: str | None = None
        try:
            self._head = probe_head(model)
        except HeadUnfamiliar as error:
            self.whole_reason = str(error)

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
            logits_RV = chunk_RX if self._head is None else self._head.logits(chunk_RX)
            keep(slice(start, start + len(chunk_RX)), logits_RV)

        self._threads.run(visit_from, range(0, len(source_RX), self._rows_per_chunk))

    @torch.inference_mode()
    def run_backbone(self, input_ids_BT: Tensor) -> Tensor:
        """What the chunks are made of: hidden states [B, T, H]; logits where the head is not split off."""
        # No mask and no position_ids: padding is on the right, where a causal model's real positions never
        # look. A mask would also cost the attention its faster path.
        if self._head is None:
            logits_BTV: Tensor = self._model(input_ids_BT, use_cache=False).logits
            return logits_BTV
        hidden_BTH: Tensor = self._model.base_model(input_ids_BT, use_cache=False)[0]
        return hidden_BTH
