"""What goes of the cache of private models, and what never does."""

import math
import os
from pathlib import Path

import pytest

from fusion.io.hub_cache import hold, list_revisions, note_use, num_bytes_of, prune

FIRST, SECOND, THIRD = ("0" * 40, "1" * 40, "2" * 40)
UNLIMITED = {"max_bytes": 10**9, "max_unused_seconds": math.inf}


def store(cache: Path, repository: str, commit: str, *, used_at: float, **blobs: bytes) -> Path:
    """A snapshot as `huggingface_hub` leaves it: links to blobs that revisions share."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    for part in (folder / "blobs", snapshot):
        part.mkdir(parents=True, exist_ok=True)
    for name, data in blobs.items():
        (folder / "blobs" / name).write_bytes(data)
        (snapshot / f"{name}.safetensors").symlink_to(Path("../../blobs") / name)
    os.utime(snapshot, (used_at, used_at))
    return snapshot


@pytest.fixture
def caches(tmp_path: Path) -> list[Path]:
    """Two projects: one with two revisions that share a blob of 10 bytes, one with a model of 30."""
    one, other = tmp_path / "proj-a", tmp_path / "proj-b"
    store(one, "org/x", FIRST, used_at=100, own=b"." * 5, both=b"." * 10)
    store(one, "org/x", SECOND, used_at=300, new=b"." * 7, both=b"." * 10)
    store(other, "org/y", THIRD, used_at=200, whole=b"." * 30)
    return [one, other]


def commits(caches: list[Path]) -> list[str | None]:
    return [revision.commit for revision in list_revisions(caches)]


def test_nothing_goes_within_the_limits(caches: list[Path]) -> None:
    assert commits(caches) == [FIRST, THIRD, SECOND]
    assert num_bytes_of(caches) == 52
    assert prune(caches, **UNLIMITED) == 0


@pytest.mark.parametrize(
    ("max_bytes", "freed", "kept"),
    [(51, 5, [THIRD, SECOND]), (46, 35, [SECOND]), (16, 52, [])],
)
def test_the_least_recently_used_goes_first_and_shared_blobs_stay(
    caches: list[Path], max_bytes: int, freed: int, kept: list[str]
) -> None:
    assert prune(caches, max_bytes=max_bytes, max_unused_seconds=math.inf) == freed

    assert commits(caches) == kept
    assert num_bytes_of(caches) == 52 - freed
    for revision in list_revisions(caches):
        assert revision.commit is not None
        snapshot = revision.repository / "snapshots" / revision.commit
        assert all(link.resolve().is_file() for link in snapshot.iterdir())


def test_what_was_unused_for_long_goes_although_there_is_room(caches: list[Path]) -> None:
    note_use(caches[0] / "models--org--x" / "snapshots" / FIRST)

    assert prune(caches, max_bytes=10**9, max_unused_seconds=3600) == 37

    assert commits(caches) == [FIRST]


def test_what_somebody_reads_stays_whatever_the_limits(caches: list[Path]) -> None:
    readers = [hold(caches[1], "org/y"), hold(caches[1], "org/y")]
    assert prune(caches, max_bytes=0, max_unused_seconds=0) == 22
    os.close(readers[0])
    assert prune(caches, max_bytes=0, max_unused_seconds=0) == 0
    assert commits(caches) == [THIRD]
    os.close(readers[1])

    assert prune(caches, max_bytes=0, max_unused_seconds=0) == 30
    assert commits(caches) == []


def test_halves_of_downloads_go_with_what_is_removed(caches: list[Path]) -> None:
    half = caches[0] / "models--org--x" / "blobs" / "abc.incomplete"
    half.write_bytes(b"." * 100)
    never_finished = caches[1] / "models--org--z" / "blobs" / "def.incomplete"
    never_finished.parent.mkdir(parents=True)
    never_finished.write_bytes(b"." * 100)
    os.utime(never_finished, (50, 50))

    freed = prune(caches, max_bytes=10**9, max_unused_seconds=3600, now=100 + 3601)

    assert freed == 100 + 100 + 5
    assert commits(caches) == [THIRD, SECOND]
    assert not half.exists()
