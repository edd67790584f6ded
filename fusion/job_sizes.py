"""How large a job is: bytes it writes, operations it computes, memory it takes. Pure arithmetic, no torch.

Operations per token and parameter: Kaplan et al., Scaling Laws for Neural Language Models,
https://arxiv.org/abs/2001.08361 (2 for a forward pass, 6 with the backward pass; attention left out).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fusion.spec import FusionSpec

TRAINING_BYTES_PER_PARAMETER = 16
"""fp32 weight, gradient and two moments of AdamW."""
# Master weights and two moments of AdamW, in float32.
_STORED_STATE_BYTES_PER_PARAMETER = 12
# Training keeps two, and deletes the oldest only after the next one is complete.
_KEPT_CHECKPOINTS = 2
_CHECKPOINTS_BEING_WRITTEN = 1
_STORED_BYTES_PER_PARAMETER = 4
_CAPTURE_FIXED_BYTES_PER_ROW = 4 + 4 + 4 + 2
_LESSON_FIXED_BYTES_PER_ROW = 4 + 8 + 2 + 1 + 1 + 2
_LESSON_BYTES_PER_ENTRY = 4 + 2


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskEstimate:
    """Bytes per kind of file; upper bounds, apart from the sampled ratio of tokens to bytes."""

    windows: int
    captures: int
    lessons: int
    checkpoints: int
    models: int

    @property
    def total(self) -> int:
        return self.windows + self.captures + self.lessons + self.checkpoints + self.models


def estimate_disk(
    spec: FusionSpec,
    *,
    num_bytes: int,
    tokens_per_byte: Mapping[str, float],
    vocabulary_sizes: Mapping[str, int],
    num_target_parameters: int,
) -> DiskEstimate:
    """What the job will write.

    Args:
        num_bytes: UTF-8 bytes of the corpus.
        tokens_per_byte, vocabulary_sizes: by model name.
    """
    top_k, num_samples = spec.strategy.extraction.top_k, spec.strategy.num_tail_samples
    captures = 0.0
    for name in spec.captured_names:
        id_bytes = bytes_per_id(vocabulary_sizes[name])
        row = _CAPTURE_FIXED_BYTES_PER_ROW + top_k * (id_bytes + 2) + num_samples * id_bytes
        captures += num_bytes * tokens_per_byte[name] * row
    num_entries = (top_k + num_samples) * len(spec.speaker_names)
    lesson_row = _LESSON_FIXED_BYTES_PER_ROW + num_entries * _LESSON_BYTES_PER_ENTRY
    num_roles = 2 if spec.evaluation.control else 1
    # The roles train one after the other, and each leaves its checkpoints behind.
    num_checkpoints = num_roles * _KEPT_CHECKPOINTS + _CHECKPOINTS_BEING_WRITTEN
    return DiskEstimate(
        windows=num_bytes,
        captures=round(captures),
        lessons=round(num_bytes * tokens_per_byte["target"] * lesson_row),
        checkpoints=num_checkpoints * _STORED_STATE_BYTES_PER_PARAMETER * num_target_parameters,
        # One per role, and the published one.
        models=(num_roles + 1) * _STORED_BYTES_PER_PARAMETER * num_target_parameters,
    )


def bytes_per_id(vocabulary_size: int) -> int:
    """Of a stored token id: the smallest integer that holds every id of the vocabulary."""
    return 2 if vocabulary_size <= 1 << 16 else 4


def forward_operations(*, num_parameters: float, num_tokens: float) -> float:
    """Floating-point operations to read text."""
    return 2.0 * num_parameters * num_tokens


def training_operations(*, num_parameters: float, num_tokens: float, recomputes: bool) -> float:
    """Floating-point operations to train on text; a third more where activations are recomputed."""
    return (8.0 if recomputes else 6.0) * num_parameters * num_tokens
