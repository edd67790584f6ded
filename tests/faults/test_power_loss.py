"""The power fails at any moment of a commit: what the database relies on is on the disk, whole.

The real code runs on a real folder while its system calls are recorded; then disks that a power cut could
have left are looked at. To kill a process shows nothing of this: the kernel keeps what it has to write.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from app.artifacts.service import store_folder
from app.storage.opening import open_store
from app.storage.store import blob_key
from fusion.io.atomic import atomic_folder, sync_folder, write_json
from fusion.io.manifest import MANIFEST_NAME, write_manifest
from tests.faults.controls import take_out
from tests.faults.power import Recording, broken_promises, recorded, states

AT_MOST = int(os.environ.get("FUSION_TEST_DISKS", "250"))
"""Disks looked at after each step; set it higher for a long run."""
PROJECT = "proj-1"
NUM_RESULTS = 6


def write_checkpoint(folder: Path) -> None:
    with atomic_folder(folder) as partial:
        (partial / "model.safetensors").write_bytes(os.urandom(64))
        write_json(partial / "state.json", {"step": 1})
        write_manifest(partial, kind="checkpoint")


def commit_attempt(recording: Recording) -> None:
    """An attempt writes a checkpoint and a result; both are stored, and the database is told."""
    workspace, storage = recording.root / "workspace", recording.root / "storage"
    store = open_store(storage.as_uri())
    write_checkpoint(workspace / "checkpoint")
    results = [f"result-{number}.txt" for number in range(NUM_RESULTS)]
    for name in results:
        (workspace / name).write_bytes(os.urandom(32))
    write_manifest(workspace, kind="thing", files=results)
    for folder in (workspace / "checkpoint", workspace):
        for file in store_folder(store, folder, project_id=PROJECT).files:
            recording.promise(storage / blob_key(project_id=PROJECT, sha256=file.sha256))


def record(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Recording], None],
    *,
    control: str | None = None,
) -> Recording:
    with recorded(root, monkeypatch) as recording:
        (root / "workspace").mkdir()
        sync_folder(root)
        if control is not None:
            # It replaces a function that was patched for the recording, which puts everything back.
            take_out(control)
        act(recording)
    return recording


def test_what_was_committed_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = record(tmp_path, monkeypatch, commit_attempt)

    broken, num_disks = broken_promises(recording, seed=1, at_most=AT_MOST)

    print("disks looked at:", num_disks)
    assert broken == []
    assert num_disks > 10_000


def test_without_fsync_the_same_judge_finds_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = record(tmp_path, monkeypatch, commit_attempt, control="no_fsync")

    broken, _ = broken_promises(recording, seed=1, at_most=AT_MOST)

    assert broken


def test_a_checkpoint_is_whole_or_is_not_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "workspace/checkpoint"
    recording = record(tmp_path, monkeypatch, lambda _: write_checkpoint(checkpoint))
    files = {path: path.read_bytes() for path in checkpoint.iterdir()}
    seen = set()

    for _, disk in states(recording, seed=2, at_most=AT_MOST):
        is_taken_for_one = disk.read(checkpoint / MANIFEST_NAME) == files[checkpoint / MANIFEST_NAME]
        seen.add(is_taken_for_one)
        if is_taken_for_one:
            assert {path: disk.read(path) for path in files} == files

    assert seen == {True, False}
