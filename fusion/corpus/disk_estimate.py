"""How much disk a job will need, computed before any model runs."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fusion.errors import CapacityError
from fusion.io.tensors import smallest_id_dtype
from fusion.spec import FusionSpec

# Master weights and two moments of AdamW, in float32.
_TRAINING_STATE_BYTES_PER_PARAMETER = 12
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
        id_bytes = smallest_id_dtype(vocabulary_sizes[name])().itemsize
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
        checkpoints=num_checkpoints * _TRAINING_STATE_BYTES_PER_PARAMETER * num_target_parameters,
        # One per role, and the published one.
        models=(num_roles + 1) * _STORED_BYTES_PER_PARAMETER * num_target_parameters,
    )


def require_disk(estimate: DiskEstimate, *, folder: Path, max_disk_bytes: int | None) -> None:
    """Refuse a job that will not fit.

    Raises:
        CapacityError: with what is needed and what there is.
    """
    if max_disk_bytes is not None and estimate.total > max_disk_bytes:
        raise _insufficient(
            estimate,
            limit=f"limits.max_disk_bytes allows {_size(max_disk_bytes)}",
            pointer="/limits/max_disk_bytes",
        )
    free = shutil.disk_usage(folder).free
    if estimate.total > free:
        raise _insufficient(estimate, limit=f"{_size(free)} are free at {folder}", pointer=None)


def _insufficient(estimate: DiskEstimate, *, limit: str, pointer: str | None) -> CapacityError:
    return CapacityError(
        f"the job needs about {_size(estimate.total)} of disk (captures {_size(estimate.captures)}, "
        f"lessons {_size(estimate.lessons)}, checkpoints {_size(estimate.checkpoints)}, "
        f"models {_size(estimate.models)}), but {limit}",
        code="insufficient_disk",
        hint="free disk space, use a smaller corpus, or lower strategy.extraction.top_k",
        pointer=pointer,
    )


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.2f} MB"
