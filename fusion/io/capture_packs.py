"""Packs of captured windows on disk: what the capture cache is made of.

A pack is a folder that is written once, beside its final name, and then renamed to the digest of its
contents; nothing in it ever changes. Concurrent writers cannot meet, a killed one leaves a folder that
nobody reads, and no lock is held, so a shared file system serves as well as a local disk. Its name, files
and facts are in its manifest; looking at packs, checking and removing them needs neither numpy nor torch.

    <cache>/<space>/<digest>/manifest.json, keys.safetensors, windows.bin

A *space* is everything but the text that a capture is a function of.
"""

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.errors import InfrastructureError
from fusion.io.atomic import sync_file, sync_folder
from fusion.io.manifest import MANIFEST_NAME, Manifest, read_manifest, verify_manifest, write_manifest

PACK_KIND = "capture_pack"
_PARTIAL_PREFIX = ".partial-"
_ABANDONED_SECONDS = 3600.0
"""A pack is written in seconds; a folder that nobody has touched for so long has lost its writer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pack:
    """A complete pack. `last_used` in Unix seconds: a reader says so on the manifest's time of change."""

    folder: Path
    manifest: Manifest
    num_bytes: int
    last_used: float

    @property
    def facts(self) -> dict[str, Any]:
        return self.manifest.meta


def write_pack(space: Path, files: dict[str, bytes], *, facts: dict[str, Any]) -> Path:
    """Add a pack of these files; an equal one that is there already is kept if it is whole.

    Raises:
        OSError: it could not be written; nothing of it is left.
    """
    partial = space / f"{_PARTIAL_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
    try:
        partial.mkdir(parents=True)
        for name, data in files.items():
            (partial / name).write_bytes(data)
            sync_file(partial / name)
        manifest = write_manifest(partial, kind=PACK_KIND, meta=facts)
        sync_folder(partial)
        folder = space / _name_of(manifest)
        if folder.is_dir() and find_damage(folder) is not None:
            remove_pack(folder)
        if not folder.is_dir():
            _rename(partial, folder)
        return folder
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rename(partial: Path, folder: Path) -> None:
    try:
        partial.rename(folder)
    except OSError:
        # Another writer was first with the same bytes: the system calls that "directory not empty".
        if not folder.is_dir():
            raise
    sync_folder(folder.parent)


def list_packs(cache: Path) -> list[Pack]:
    """All complete packs of all spaces, the least recently used first. Unreadable ones are left out."""
    packs = []
    for folder in pack_folders(cache):
        with suppress(OSError, ValueError, KeyError, TypeError, InfrastructureError):
            packs.append(read_pack(folder))
    return sorted(packs, key=lambda pack: (pack.last_used, pack.folder.name))


def pack_folders(cache: Path) -> list[Path]:
    """Folders that may be packs, whatever their state."""
    return [folder for space in sorted(cache.glob("*")) for folder in folders_of_space(space)]


def folders_of_space(space: Path) -> list[Path]:
    """The same of one space."""
    return [path for path in sorted(space.glob("*")) if not path.name.startswith(".") and path.is_dir()]


def read_pack(folder: Path) -> Pack:
    """Facts of one pack; the bytes of its files are not looked at.

    Raises:
        InfrastructureError, OSError, ValueError, KeyError, TypeError: it is gone or damaged.
    """
    manifest = read_manifest(folder, kind=PACK_KIND)
    stat = (folder / MANIFEST_NAME).stat()
    return Pack(
        folder=folder,
        manifest=manifest,
        num_bytes=manifest.num_bytes + stat.st_size,
        last_used=stat.st_mtime,
    )


def mark_used(folder: Path) -> None:
    """Tell `prune` that the pack is of use."""
    with suppress(OSError):  # removed meanwhile, or a disk that is read only
        os.utime(folder / MANIFEST_NAME)


def find_damage(folder: Path) -> str | None:
    """Read every byte of a pack; what is wrong with it, or None."""
    try:
        manifest = verify_manifest(folder)
    except (InfrastructureError, OSError, ValueError, KeyError, TypeError) as error:
        return getattr(error, "message", None) or f"{folder}: {type(error).__name__}: {error}"
    if folder.name != _name_of(manifest):
        return f"{folder}: the manifest is not the one that the folder is named after"
    return None


def _name_of(manifest: Manifest) -> str:
    """Digest of the files and the facts."""
    return hashlib.sha256(json.dumps([manifest.digest, manifest.meta], sort_keys=True).encode()).hexdigest()


def remove_pack(folder: Path) -> None:
    """Take a pack away in one step. A reader that comes too late finds nothing and captures again."""
    doomed = folder.with_name(f"{_PARTIAL_PREFIX}{secrets.token_hex(8)}")
    with suppress(FileNotFoundError):
        folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
    with suppress(OSError):  # other packs of the space are still there
        folder.parent.rmdir()


def abandoned(cache: Path, *, now: float | None = None) -> Iterator[Path]:
    """Folders that killed writers left behind."""
    latest = (time.time() if now is None else now) - _ABANDONED_SECONDS
    for folder in sorted(cache.glob(f"*/{_PARTIAL_PREFIX}*")):
        with suppress(FileNotFoundError):
            if folder.stat().st_mtime < latest:
                yield folder
