"""The disk that a job will need is there, or the job is refused before any model runs."""

import shutil
from pathlib import Path

from fusion.errors import CapacityError
from fusion.job_sizes import DiskEstimate


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
