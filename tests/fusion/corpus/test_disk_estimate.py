"""The disk a job needs is known, and refused, before any model runs."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from fusion.corpus.disk_estimate import require_disk
from fusion.errors import CapacityError
from fusion.io.tensors import smallest_id_dtype
from fusion.job_sizes import DiskEstimate, bytes_per_id, estimate_disk
from fusion.spec_text import validate_spec

NUM_PARAMETERS = 1000
FLOAT32_STATE_BYTES = 4 + 4 + 4
ESTIMATE = DiskEstimate(
    windows=0, captures=2_000_000, lessons=1_000_000, checkpoints=4_000_000, models=3_000_000
)


def estimate(*, control: bool) -> DiskEstimate:
    spec = validate_spec(
        {
            "api_version": "fusion/v1",
            "sources": [{"name": "mpt", "model": {"path": "/models/mpt"}}],
            "target": {"model": {"path": "/models/target"}},
            "corpus": {"files": [{"path": "/corpus.jsonl"}]},
            "evaluation": {"control": control},
        }
    )
    return estimate_disk(
        spec,
        num_bytes=100,
        tokens_per_byte={"target": 0.25, "mpt": 0.25},
        vocabulary_sizes={"target": 32_000, "mpt": 50_000},
        num_target_parameters=NUM_PARAMETERS,
    )


@pytest.mark.parametrize(("control", "num_checkpoints"), [(False, 2 + 1), (True, 2 + 2 + 1)])
def test_a_checkpoint_is_written_before_the_oldest_is_deleted(control: bool, num_checkpoints: int) -> None:
    assert estimate(control=control).checkpoints == num_checkpoints * FLOAT32_STATE_BYTES * NUM_PARAMETERS


@pytest.mark.parametrize("vocabulary_size", [2, 1 << 16, (1 << 16) + 1, 152_000])
def test_ids_are_counted_as_they_are_stored(vocabulary_size: int) -> None:
    assert bytes_per_id(vocabulary_size) == smallest_id_dtype(vocabulary_size)().itemsize


@pytest.fixture
def set_free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the file system report so many free bytes."""
    return lambda num_bytes: monkeypatch.setattr(
        shutil, "disk_usage", lambda _: SimpleNamespace(free=num_bytes)
    )


def test_a_job_larger_than_the_free_space_is_refused(set_free: Callable[[int], None], tmp_path: Path) -> None:
    set_free(9_999_999)

    with pytest.raises(CapacityError, match=r"needs about 10\.00 MB .* 10\.00 MB are free at") as caught:
        require_disk(ESTIMATE, folder=tmp_path, max_disk_bytes=None)

    assert caught.value.code == "insufficient_disk"
    assert caught.value.pointer is None


def test_a_job_that_just_fits_runs(set_free: Callable[[int], None], tmp_path: Path) -> None:
    set_free(10_000_000)

    require_disk(ESTIMATE, folder=tmp_path, max_disk_bytes=10_000_000)


def test_an_estimate_is_compared_with_the_real_disk(tmp_path: Path) -> None:
    more = DiskEstimate(
        windows=shutil.disk_usage(tmp_path).total + 1, captures=0, lessons=0, checkpoints=0, models=0
    )

    with pytest.raises(CapacityError, match="are free at"):
        require_disk(more, folder=tmp_path, max_disk_bytes=None)
