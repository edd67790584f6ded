"""Keeping the capture cache small: by age, by size, the least recently used packs first."""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion.io.capture_packs import Pack, abandoned, list_packs, remove_pack


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruning:
    """What goes and what stays, in bytes. `abandoned`: folders of writers that were killed."""

    packs: tuple[Pack, ...]
    abandoned: tuple[Path, ...]
    num_kept: int
    num_kept_bytes: int

    @property
    def num_bytes(self) -> int:
        return sum(pack.num_bytes for pack in self.packs)


def plan_pruning(
    caches: Sequence[Path],
    *,
    max_bytes: int | None = None,
    max_age_seconds: float | None = None,
    now: float | None = None,
) -> Pruning:
    """Decide what has to go so that all of `caches` together keep to the limits; removes nothing."""
    now = time.time() if now is None else now
    packs = sorted((pack for cache in caches for pack in list_packs(cache)), key=lambda pack: pack.last_used)
    num_bytes = sum(pack.num_bytes for pack in packs)
    doomed = []
    for pack in packs:
        too_old = max_age_seconds is not None and now - pack.last_used > max_age_seconds
        too_much = max_bytes is not None and num_bytes > max_bytes
        if too_old or too_much:
            doomed.append(pack)
            num_bytes -= pack.num_bytes
    return Pruning(
        packs=tuple(doomed),
        abandoned=tuple(folder for cache in caches for folder in abandoned(cache, now=now)),
        num_kept=len(packs) - len(doomed),
        num_kept_bytes=num_bytes,
    )


def prune(pruning: Pruning) -> None:
    """Carry out what was planned. Whoever reads a pack at that moment finds it whole or not at all."""
    for pack in pruning.packs:
        remove_pack(pack.folder)
    for folder in pruning.abandoned:
        shutil.rmtree(folder, ignore_errors=True)


def fitting_bytes(folder: Path, *, num_used: int, max_bytes: int) -> int:
    """`max_bytes`, but never more than half of what the disk would have free without the cache."""
    stats = os.statvfs(folder)
    return min(max_bytes, (stats.f_bavail * stats.f_frsize + num_used) // 2)
