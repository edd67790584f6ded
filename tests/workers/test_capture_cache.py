"""A worker's cache stays within its limit, over all projects."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fusion.io.capture_packs import list_packs
from tests.fusion.io.cached_windows import captures, open_cache
from tests.workers.conftest import Workshop
from workers.capture_cache import keep_within_limit


def fill(root: Path) -> list[int]:
    """A pack for each of three projects, last used in their order; the sizes."""
    for number, project in enumerate(("proj-c", "proj-a", "proj-b")):
        open_cache(root / project).put(captures(range(5)))
        [pack] = list_packs(root / project)
        os.utime(pack.folder / "manifest.json", (number, number))
    return [pack.num_bytes for project in sorted(root.iterdir()) for pack in list_packs(project)]


def projects_with_packs(root: Path) -> set[str]:
    return {project.name for project in root.iterdir() if list_packs(project)}


@pytest.mark.parametrize(
    ("num_fitting", "kept"), [(3, {"proj-a", "proj-b", "proj-c"}), (2, {"proj-a", "proj-b"}), (0, set())]
)
def test_what_was_unused_for_longest_goes_in_whichever_project(
    make_workshop: Callable[..., Workshop], tmp_path: Path, num_fitting: int, kept: set[str]
) -> None:
    sizes = fill(tmp_path / "cache")
    limit = sizes[0] * num_fitting
    workshop = make_workshop(capture_cache_dir=tmp_path / "cache", max_capture_cache_bytes=limit)

    keep_within_limit(workshop.worker)

    assert projects_with_packs(tmp_path / "cache") == kept


def test_a_worker_without_a_cache_has_nothing_to_do(workshop: Workshop) -> None:
    keep_within_limit(workshop.worker)

    assert not workshop.worker.settings.capture_cache_dir.exists()
