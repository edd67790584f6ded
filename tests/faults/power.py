"""What a disk may hold after the power failed: every write and name that nobody forced to it may be missing.

`recorded` watches the system calls by which files become durable; `states` gives disks that a power cut could
have left at any moment of the recording. What was synced is there; of the rest, any part may be.
"""

import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

Name = tuple[int, str]
"""An entry of a folder: the folder's inode and the name in it."""


@dataclass(frozen=True, slots=True)
class Named:
    """A name means this inode from now on; None when it was removed."""

    name: Name
    inode: int | None


@dataclass(frozen=True, slots=True)
class Written:
    """A file holds these bytes now."""

    inode: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Synced:
    """A file or folder was forced to the disk."""

    inode: int


@dataclass(frozen=True, slots=True)
class Promised:
    """From now on somebody relies on a file."""

    path: Path
    data: bytes


Step = Named | Written | Synced | Promised


@dataclass(slots=True)
class Recording:
    """What happened below a folder, in order."""

    root: Path
    steps: list[Step] = field(default_factory=list)

    def promise(self, path: Path) -> None:
        self.steps.append(Promised(path, path.read_bytes()))

    def appeared(self, path: Path) -> None:
        """A name is there: note what it means and holds."""
        self.steps.append(Named(self._name(path), path.stat().st_ino))
        if path.is_file():
            self.steps.append(Written(path.stat().st_ino, path.read_bytes()))

    def vanished(self, path: Path) -> None:
        self.steps.append(Named(self._name(path), None))

    def synced(self, path: Path) -> None:
        for child in path.iterdir() if path.is_dir() else [path]:
            self.appeared(child)
        self.steps.append(Synced(path.stat().st_ino))

    def _name(self, path: Path) -> Name:
        return path.parent.stat().st_ino, path.name


@contextmanager
def recorded(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    """Record what happens to names and bytes below `root` while the block runs."""
    recording = Recording(root)

    def watch(module: Any, name: str, after: Callable[..., None]) -> None:
        original = getattr(module, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            after(*args)
            return result

        monkeypatch.setattr(module, name, watched)

    def tell(act: Callable[[Path], None], path: Any) -> None:
        found = Path(path)
        if found.is_relative_to(root) and found.parent.exists():
            act(found)

    def made(path: Any, *_: Any) -> None:
        tell(recording.appeared, path)

    def linked(_source: Any, destination: Any, *_: Any) -> None:
        tell(recording.appeared, destination)

    def moved(source: Any, destination: Any, *_: Any) -> None:
        if not Path(source).exists():
            tell(recording.vanished, source)
        tell(recording.appeared, destination)

    def removed(path: Any, *_: Any) -> None:
        tell(recording.vanished, path)

    def synced(descriptor: int) -> None:
        tell(recording.synced, Path(f"/proc/self/fd/{descriptor}").readlink())

    with monkeypatch.context() as patched:
        monkeypatch = patched
        for name, after in (
            ("link", linked), ("rename", moved), ("replace", moved), ("mkdir", made), ("unlink", removed),
            ("fsync", synced),
        ):  # fmt: skip
            watch(os, name, after)
        watch(shutil, "copyfile", linked)
        yield recording


@dataclass(frozen=True, slots=True)
class Disk:
    """A state after a power cut: which names are there, and what the files hold."""

    root_inode: int
    root: Path
    names: dict[Name, int]
    contents: dict[int, bytes]

    def read(self, path: Path) -> bytes | None:
        """The bytes of a file; None where it, or a folder on the way to it, is not there."""
        inode = self.root_inode
        for part in path.relative_to(self.root).parts:
            found = self.names.get((inode, part))
            if found is None:
                return None
            inode = found
        return self.contents.get(inode, b"")


def states(recording: Recording, *, seed: int, at_most: int) -> Iterator[tuple[list[Step], Disk]]:
    """Disks that a power cut may leave, with the steps before it: all, or a sample after each step."""
    rng = random.Random(seed)
    root_inode = recording.root.stat().st_ino
    for num in range(len(recording.steps) + 1):
        done = recording.steps[:num]
        kept_names, kept_bytes = _durable(done)
        names = {step.name: step.inode for step in done if isinstance(step, Named)}
        written = {step.inode: step.data for step in done if isinstance(step, Written)}
        open_names = [name for name, inode in names.items() if kept_names.get(name) != inode]
        open_files = [inode for inode, data in written.items() if kept_bytes.get(inode) != data]
        for chosen in _choices(len(open_names) + len(open_files), rng=rng, at_most=at_most):
            seen: dict[Name, int | None] = dict(kept_names)
            seen |= {
                name: names[name] for name, is_there in zip(open_names, chosen, strict=False) if is_there
            }
            held = dict(kept_bytes)
            for inode, is_there in zip(open_files, chosen[len(open_names) :], strict=True):
                if is_there:
                    # Any part of what nobody synced may have been written.
                    held[inode] = written[inode][: rng.randint(0, len(written[inode]))]
            left = {name: inode for name, inode in seen.items() if inode is not None}
            yield done, Disk(root_inode, recording.root, left, held)


def broken_promises(recording: Recording, *, seed: int, at_most: int) -> tuple[list[str], int]:
    """Promises that some disk does not keep, and how many disks were looked at."""
    broken: set[str] = set()
    num_disks = 0
    for done, disk in states(recording, seed=seed, at_most=at_most):
        num_disks += 1
        for step in done:
            if isinstance(step, Promised) and disk.read(step.path) != step.data:
                broken.add(f"{step.path.relative_to(recording.root)} after {len(done)} steps")
    return sorted(broken), num_disks


def _durable(steps: list[Step]) -> tuple[dict[Name, int | None], dict[int, bytes]]:
    """Names and bytes that are on the disk for certain after these steps."""
    names: dict[Name, int | None] = {}
    contents: dict[int, bytes] = {}
    waiting_names: dict[Name, int | None] = {}
    waiting_bytes: dict[int, bytes] = {}
    for step in steps:
        match step:
            case Named(name=name, inode=inode):
                waiting_names[name] = inode
            case Written(inode=inode, data=data):
                waiting_bytes[inode] = data
            case Synced(inode=inode):
                if inode in waiting_bytes:
                    contents[inode] = waiting_bytes[inode]
                for name in [name for name in waiting_names if name[0] == inode]:
                    names[name] = waiting_names.pop(name)
    return names, contents


def _choices(num: int, *, rng: random.Random, at_most: int) -> Iterator[tuple[bool, ...]]:
    """Every way to choose among `num` things, or `at_most` of them at random."""
    if 2**num <= at_most:
        yield from itertools.product((False, True), repeat=num)
        return
    for _ in range(at_most):
        yield tuple(rng.random() < 0.5 for _ in range(num))
