"""Finished parts are kept while a step runs: all shards, and the last two checkpoints of a training."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from app.db.session import transaction
from app.jobs import service as jobs
from app.jobs.service import ClaimedStep
from fusion.io.manifest import write_manifest
from tests.workers.conftest import Workshop
from workers.lease import Lease
from workers.parts import PartPublisher


@pytest.fixture
def step(workshop: Workshop) -> ClaimedStep:
    workshop.submit()
    with transaction(workshop.worker.engine) as session:
        claimed = jobs.claim_step(session, worker_id="w", resources=["cpu"], lease_seconds=60)
    assert claimed is not None
    return claimed


def make_part(out: Path, name: str) -> str:
    (out / name).mkdir(parents=True)
    (out / name / "data").write_text(name)
    write_manifest(out / name, kind="part")
    return name


@contextmanager
def publisher(
    workshop: Workshop, step: ClaimedStep, out: Path, *, max_offline_seconds: float = 60
) -> Iterator[PartPublisher]:
    """A publisher whose lease is renewed ten times a second."""
    worker = workshop.worker
    with (
        Lease(
            worker.engine,
            step,
            lease_seconds=60,
            heartbeat_seconds=0.1,
            max_offline_seconds=max_offline_seconds,
        ) as lease,
        PartPublisher(worker.engine, worker.store, step, lease=lease, out=out) as parts,
    ):
        yield parts


def publish(workshop: Workshop, step: ClaimedStep, out: Path, *, num_parts: int) -> list[str]:
    """Publish parts one after the other; the roles that are kept."""
    with publisher(workshop, step, out) as parts:
        for number in range(num_parts):
            parts.publish(make_part(out, f"step-{number:08d}"))
    return sorted(part.role for part in workshop.artifacts(step.job_id, "checkpoint"))


def blobs(workshop: Workshop) -> int:
    return sum(path.is_file() for path in (workshop.worker.settings.data_dir / "storage").rglob("*"))


def test_all_shards_are_kept(workshop: Workshop, step: ClaimedStep, tmp_path: Path) -> None:
    assert len(publish(workshop, replace(step, stage="extract"), tmp_path / "out", num_parts=4)) == 4


def test_the_last_two_checkpoints_of_a_training_are_kept(
    workshop: Workshop, step: ClaimedStep, tmp_path: Path
) -> None:
    kept = publish(workshop, replace(step, stage="train"), tmp_path / "out", num_parts=4)

    assert kept == ["step-00000002", "step-00000003"]
    assert blobs(workshop) == 4


def test_a_part_that_vanished_is_passed_over(workshop: Workshop, step: ClaimedStep, tmp_path: Path) -> None:
    with publisher(workshop, step, tmp_path) as parts:
        parts.publish("gone")
        parts.publish(make_part(tmp_path, "there"))

    assert [part.role for part in workshop.artifacts(step.job_id, "checkpoint")] == ["there"]


def test_parts_of_a_stale_attempt_are_refused(workshop: Workshop, step: ClaimedStep, tmp_path: Path) -> None:
    with publisher(workshop, replace(step, attempt=0), tmp_path) as parts:
        parts.publish(make_part(tmp_path, "one"))

    assert parts.is_lost
    assert workshop.artifacts(step.job_id, "checkpoint") == []


@pytest.mark.parametrize("path", ["../outside", "/etc", "a/../b"])
def test_a_part_outside_the_output_folder_is_no_part(
    workshop: Workshop, step: ClaimedStep, tmp_path: Path, path: str
) -> None:
    with (
        publisher(workshop, step, tmp_path) as parts,
        pytest.raises(ValueError, match="relative"),
    ):
        parts.publish(path)
