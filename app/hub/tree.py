"""The files of an artifact as the hub lists them: all as LFS files, whose identity is their sha256."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from app.db.models import ArtifactFile


@dataclass(frozen=True, kw_only=True, slots=True)
class LfsPointer:
    """What git holds in place of a large file."""

    sha256: str
    size: int

    @property
    def text(self) -> bytes:
        """https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md"""
        version = "https://git-lfs.github.com/spec/v1"
        return f"version {version}\noid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @property
    def blob_id(self) -> str:
        """The id that git gives the pointer."""
        header = f"blob {len(self.text)}\0".encode()
        return hashlib.sha1(header + self.text, usedforsecurity=False).hexdigest()


def pointer_to(file: ArtifactFile) -> LfsPointer:
    return LfsPointer(sha256=file.sha256, size=file.num_bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """A folder of a listing. `id`: 40 hexadecimal digits that stand for what it holds."""

    path: str
    id: str


def entries_below(
    files: Sequence[ArtifactFile], folder: str, *, recursive: bool
) -> list[Folder | ArtifactFile] | None:
    """What is listed for a folder (`""` is the root): by path, or None where there is no such folder.

    Args:
        recursive: everything below it, not only what lies directly in it.
    """
    parent = PurePosixPath(folder)
    inside = [file for file in files if folder == "" or parent in PurePosixPath(file.path).parents]
    if not inside and folder:
        return None
    folders = {
        ancestor
        for file in inside
        for ancestor in PurePosixPath(file.path).parents
        if _is_below(ancestor, parent)
    }
    entries: list[Folder | ArtifactFile] = [_folder(path, inside) for path in folders]
    entries += inside
    if not recursive:
        entries = [entry for entry in entries if PurePosixPath(entry.path).parent == parent]
    return sorted(entries, key=lambda entry: entry.path)


def _is_below(path: PurePosixPath, parent: PurePosixPath) -> bool:
    return path != parent and path.is_relative_to(parent)


def _folder(path: PurePosixPath, files: Sequence[ArtifactFile]) -> Folder:
    held = [f"{file.sha256}  {file.path}" for file in files if PurePosixPath(file.path).is_relative_to(path)]
    return Folder(
        path=str(path), id=hashlib.sha1("\n".join(held).encode(), usedforsecurity=False).hexdigest()
    )
