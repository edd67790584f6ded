"""How well one model predicts the held-out documents, in nats.

Letters: `D` documents, `B` sequences of a batch, `T` positions, `V` valid ids.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion.errors import CapacityError
from fusion.evaluation.documents import HeldOutDocument
from fusion.io.tensors import Array
from fusion.llms.token_bytes import TextEncoder

_MAX_LOGIT_BYTES = {"cpu": 256 << 20, "cuda": 2 << 30}
_FP32_CHUNK_BYTES = 128 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentScores:
    """One model's scores.

    nats: float64 [D]; negative log-likelihood of the text, summed over its windows. Not finite where the
        model's logits were not; 0 where the tokenizer is lossy.
    num_tokens: int64 [D]; tokens of the text.
    lossless: bool [D]; whether the tokenizer reproduces the document.
    """

    nats: Array
    num_tokens: Array
    lossless: Array

    def arrays(self) -> dict[str, Array]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Window:
    """Token ids of one window and the place of its document."""

    document: int
    ids: Array


def score_documents(
    model: Any,
    encoder: TextEncoder,
    documents: Sequence[HeldOutDocument],
    *,
    start_id: int,
    device: torch.device,
    on_windows: Callable[[int], None],
) -> DocumentScores:
    """Score every document window by window; a window is read as `[start_id] + ids` and EOS is not scored.

    Args:
        model: a causal language model in evaluation mode on `device`.
        on_windows: called with the number of windows a batch finished.

    Raises:
        CapacityError: one window alone exceeds the device's memory.
    """
    scores = DocumentScores(
        nats=np.zeros(len(documents)),
        num_tokens=np.zeros(len(documents), np.int64),
        lossless=np.ones(len(documents), bool),
    )
    windows = _encode(documents, encoder, lossless=scores.lossless)
    on_windows(sum(len(document.windows) for document in documents) - len(windows))
    pending = sorted(windows, key=lambda window: -len(window.ids))
    max_tokens = _default_max_tokens(model, device)
    while pending:
        batch = pending[: max(1, max_tokens // len(pending[0].ids))]
        try:
            nats = _score_batch(model, batch, start_id=start_id, num_valid_ids=encoder.size, device=device)
        except torch.OutOfMemoryError as error:
            max_tokens = _backed_off(batch, error)
            continue
        for window, value in zip(batch, nats, strict=True):
            scores.nats[window.document] += value
            scores.num_tokens[window.document] += len(window.ids)
        pending = pending[len(batch) :]
        on_windows(len(batch))
    return scores


def _encode(documents: Sequence[HeldOutDocument], encoder: TextEncoder, *, lossless: Array) -> list[_Window]:
    """Windows of the documents that the tokenizer reproduces; the others are marked in `lossless`."""
    windows: list[_Window] = []
    for number, document in enumerate(documents):
        encoded = [encoder.encode(text) for text in document.windows]
        lossless[number] = all(text.lossless for text in encoded)
        if lossless[number]:
            windows += [_Window(document=number, ids=text.ids) for text in encoded if len(text.ids)]
    return windows


def _default_max_tokens(model: Any, device: torch.device) -> int:
    bytes_per_row = int(model.config.vocab_size) * model.dtype.itemsize
    return max(1, _MAX_LOGIT_BYTES[device.type] // bytes_per_row)


def _backed_off(batch: list[_Window], error: BaseException) -> int:
    """Half the tokens of the batch that did not fit."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if len(batch) == 1:
        raise CapacityError(
            f"one window of {len(batch[0].ids)} tokens exceeds the device's memory",
            code="out_of_memory",
            hint="lower corpus.max_tokens_per_window, or use a device with more memory",
            pointer="/corpus/max_tokens_per_window",
        ) from error
    return len(batch) * len(batch[0].ids) // 2


@torch.inference_mode()
def _score_batch(
    model: Any, batch: list[_Window], *, start_id: int, num_valid_ids: int, device: torch.device
) -> list[float]:
    """Nats of each window. Padding is on the right, where a causal model's real positions never look."""
    lengths = [len(window.ids) for window in batch]
    input_ids_BT = torch.full((len(batch), max(lengths)), start_id)
    for row, window in enumerate(batch):
        input_ids_BT[row, 1 : len(window.ids)] = torch.from_numpy(window.ids[:-1])
    logits_BTV = model(input_ids=input_ids_BT.to(device), use_cache=False).logits[..., :num_valid_ids]
    return [
        _nats(logits_BTV[row, :length], torch.from_numpy(window.ids).to(device))
        for row, (length, window) in enumerate(zip(lengths, batch, strict=True))
    ]


def _nats(logits_TV: Tensor, ids_T: Tensor) -> float:
    """Negative log-likelihood of the ids: softmax in fp32, a slice at a time, sum in fp64."""
    rows = max(1, _FP32_CHUNK_BYTES // (4 * logits_TV.shape[1]))
    total = torch.zeros((), dtype=torch.float64, device=logits_TV.device)
    for logits, ids in zip(logits_TV.split(rows), ids_T.long().split(rows), strict=True):
        nats_T = torch.nn.functional.cross_entropy(logits.float(), ids, reduction="none")
        total += nats_T.sum(dtype=torch.float64)
    return float(total)
