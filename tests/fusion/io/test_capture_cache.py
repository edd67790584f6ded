"""What the cache gives is what was put, or nothing: whatever happens to its files."""

import os
import random
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fusion.io import capture_packs
from fusion.io.cache_pruning import fitting_bytes, plan_pruning, prune
from fusion.io.capture_cache import space_digest, window_key
from fusion.io.capture_packs import find_damage, list_packs, pack_folders, remove_pack
from tests.fusion.io.cached_windows import SPACE, capture, captures, is_right, key, open_cache, window


def test_windows_come_back_in_another_process_s_cache(tmp_path: Path) -> None:
    open_cache(tmp_path).put(captures(range(7)))
    cache = open_cache(tmp_path)

    assert all(is_right(found, n) for n in range(7) if (found := cache.get(key(n))))
    assert all(cache.get(key(n)) is not None for n in range(7))
    assert cache.get(key(7)) is None
    assert key(6) in cache
    assert key(7) not in cache


def test_the_key_is_of_the_space_the_text_and_the_end() -> None:
    there = window(1)
    keys = {
        window_key(SPACE, there),
        window_key(SPACE, replace(there, text="text 1 ")),
        window_key(SPACE, replace(there, ends_document=True)),
        window_key(space_digest(model="m", precision="bfloat16"), there),
    }

    assert len(keys) == 4
    assert window_key(SPACE, replace(there, document=9, domain="other")) == window_key(SPACE, there)


def test_another_space_finds_nothing(tmp_path: Path) -> None:
    open_cache(tmp_path).put(captures(range(3)))
    (tmp_path / SPACE).rename(tmp_path / space_digest(model="other"))

    assert open_cache(tmp_path).get(key(1)) is None


def test_equal_packs_are_one(tmp_path: Path) -> None:
    for _ in range(2):
        open_cache(tmp_path).put(captures(range(4)))

    assert len(list_packs(tmp_path)) == 1
    assert list_packs(tmp_path)[0].facts == {"model": "m", "num_windows": 4, "num_rows": 6}


@pytest.mark.parametrize("name", ["manifest.json", "keys.safetensors", "windows.bin"])
@pytest.mark.parametrize("seed", range(25))
def test_a_flipped_byte_anywhere_never_gives_a_wrong_window(tmp_path: Path, name: str, seed: int) -> None:
    open_cache(tmp_path).put(captures(range(4, 9)))
    [folder] = pack_folders(tmp_path)
    data = bytearray((folder / name).read_bytes())
    place = random.Random(seed).randrange(len(data))
    data[place] ^= 1 << random.Random(seed).randrange(8)
    (folder / name).write_bytes(data)
    damage: list[str] = []
    cache = open_cache(tmp_path, damage=damage)

    found = {number: cache.get(key(number)) for number in range(4, 9)}

    assert all(is_right(window, number) for number, window in found.items() if window is not None)
    missing = [number for number, window in found.items() if window is None]
    if missing:
        assert damage
    if name == "windows.bin":
        assert len(missing) == 1
    assert find_damage(folder) is not None
    cache.put(captures(range(4, 9)))
    healed = open_cache(tmp_path, damage=(late := []))
    assert all(healed.get(key(number)) is not None for number in range(4, 9))
    assert not late


@pytest.mark.parametrize("name", ["manifest.json", "keys.safetensors", "windows.bin"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_damage(tmp_path: Path, name: str, share: float) -> None:
    open_cache(tmp_path).put(captures(range(4, 9)))
    [folder] = pack_folders(tmp_path)
    os.truncate(folder / name, int((folder / name).stat().st_size * share))
    damage: list[str] = []

    cache = open_cache(tmp_path, damage=damage)

    assert all(cache.get(key(number)) is None for number in range(4, 9))
    assert damage


def test_processes_that_write_and_are_killed_leave_whole_packs(tmp_path: Path) -> None:
    """Three writers of overlapping windows; each is killed while it writes."""
    command = [sys.executable, "-m", "tests.fusion.io.cached_windows", str(tmp_path)]
    writers = [
        subprocess.Popen([*command, str(first), "60"], stdout=subprocess.PIPE, text=True)
        for first in (0, 0, 5)
    ]
    for number, writer in enumerate(writers):
        assert writer.stdout is not None
        for _ in range(3 + number):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    damage: list[str] = []
    cache = open_cache(tmp_path, damage=damage)

    assert not damage
    assert [folder for folder in pack_folders(tmp_path) if find_damage(folder)] == []
    assert all((found := cache.get(key(number))) and is_right(found, number) for number in range(15))


def test_what_killed_writers_left_is_pruned_when_it_is_old(tmp_path: Path) -> None:
    left = tmp_path / SPACE / ".partial-1-a"
    left.mkdir(parents=True)

    prune(plan_pruning([tmp_path]))
    assert left.is_dir()
    prune(plan_pruning([tmp_path], now=left.stat().st_mtime + 4000))
    assert not left.exists()


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(capture_packs, "sync_file", full)

    with pytest.raises(OSError, match="No space"):
        open_cache(tmp_path).put(captures(range(3)))

    assert list((tmp_path / SPACE).iterdir()) == []


def test_reading_while_packs_are_removed_gives_right_windows_or_none(tmp_path: Path) -> None:
    for start in range(0, 200, 5):
        open_cache(tmp_path).put(captures(range(start, start + 5)))
    damage: list[str] = []
    cache = open_cache(tmp_path, damage=damage)
    remover = threading.Thread(target=lambda: [remove_pack(folder) for folder in pack_folders(tmp_path)])

    remover.start()
    found = {number: cache.get(key(number)) for number in range(200)}
    remover.join()

    assert all(is_right(window, number) for number, window in found.items() if window is not None)
    assert not damage
    assert open_cache(tmp_path).get(key(0)) is None
    cache.put(captures(range(200)))
    assert all(cache.get(key(number)) is not None for number in range(200))


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    for number, start in enumerate((0, 5, 10)):
        open_cache(tmp_path).put(captures(range(start, start + 5)))
        for pack in list_packs(tmp_path):
            if pack.last_used > 100:
                os.utime(pack.folder / "manifest.json", (number + 1, number + 1))
    open_cache(tmp_path).get(key(1))
    sizes = [pack.num_bytes for pack in list_packs(tmp_path)]

    planned = plan_pruning([tmp_path], max_bytes=sum(sizes) - 1)

    assert len(list_packs(tmp_path)) == 3
    assert planned.num_bytes == sizes[0]
    assert len(plan_pruning([tmp_path], max_age_seconds=3600).packs) == 2
    prune(planned)
    cache = open_cache(tmp_path)
    assert [cache.get(key(number)) is not None for number in (1, 6, 11)] == [True, False, True]
    assert plan_pruning([tmp_path], max_bytes=0).num_kept == 0


def test_the_cache_takes_at_most_half_of_what_is_free(tmp_path: Path) -> None:
    assert fitting_bytes(tmp_path, num_used=0, max_bytes=10) == 10
    stats = os.statvfs(tmp_path)
    half = (stats.f_bavail * stats.f_frsize + 1000) // 2
    assert fitting_bytes(tmp_path, num_used=1000, max_bytes=10**18) == pytest.approx(half, rel=0.2)


def test_a_window_without_rows_is_known_to_have_none(tmp_path: Path) -> None:
    assert capture(5).num_rows == 0
    open_cache(tmp_path).put({key(5): capture(5)})

    found = open_cache(tmp_path).get(key(5))

    assert found is not None
    assert found.num_windows == 1
    assert found.num_rows == 0
