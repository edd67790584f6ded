"""A manifest says that a folder is complete, what is in it, and how to check it.

`manifest.json` is written last. A folder without one is unfinished work and is never read.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fusion.errors import InfrastructureError
from fusion.io.atomic import read_json, write_json

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestFile:
    """A file of a folder: path relative to the folder with `/`, size in bytes, sha256 in hexadecimal."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Contents of a finished folder. `kind` names the format, `meta` holds facts a reader needs."""

    kind: str
    files: tuple[ManifestFile, ...]
    meta: dict[str, Any]
    format_version: int = FORMAT_VERSION

    @property
    def digest(self) -> str:
        """sha256 over the names and digests of the files: equal for folders with equal contents."""
        lines = "".join(f"{file.sha256}  {file.path}\n" for file in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def num_bytes(self) -> int:
        return sum(file.size for file in self.files)


def write_manifest(
    folder: Path, *, kind: str, meta: dict[str, Any] | None = None, files: Iterable[str] | None = None
) -> Manifest:
    """Digest the files of `folder` and declare it complete.

    Args:
        files: relative paths that belong to it; every file below `folder` when not given.
    """
    names = sorted(files) if files is not None else _files_below(folder)
    entries = tuple(
        ManifestFile(path=name, size=(folder / name).stat().st_size, sha256=file_sha256(folder / name))
        for name in names
    )
    manifest = Manifest(kind=kind, files=entries, meta=meta or {})
    write_json(folder / MANIFEST_NAME, asdict(manifest))
    return manifest


def is_complete(folder: Path) -> bool:
    """Whether `folder` carries a manifest."""
    return (folder / MANIFEST_NAME).is_file()


def read_manifest(folder: Path, *, kind: str | None = None) -> Manifest:
    """Read a finished folder's manifest and check that every file is there in its full size.

    Raises:
        InfrastructureError: no manifest, another kind, another format version, or a torn file.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise InfrastructureError(
            f"{folder} holds no {MANIFEST_NAME}: it is unfinished", code="folder_unfinished"
        )
    data = read_json(path)
    if data["format_version"] != FORMAT_VERSION:
        raise InfrastructureError(
            f"{folder} has format version {data['format_version']}, expected {FORMAT_VERSION}",
            code="format_version_mismatch",
        )
    if kind is not None and data["kind"] != kind:
        raise InfrastructureError(
            f"{folder} holds {data['kind']!r}, expected {kind!r}", code="folder_kind_mismatch"
        )
    manifest = Manifest(
        kind=data["kind"], files=tuple(ManifestFile(**file) for file in data["files"]), meta=data["meta"]
    )
    for file in manifest.files:
        found = folder / file.path
        size = found.stat().st_size if found.is_file() else None
        if size != file.size:
            raise InfrastructureError(
                f"{found}: {'missing' if size is None else f'{size} bytes'}, expected {file.size} bytes",
                code="folder_damaged",
            )
    return manifest


def verify_manifest(folder: Path) -> Manifest:
    """`read_manifest`, and every digest recomputed.

    Raises:
        InfrastructureError: a file's bytes are not those that were written.
    """
    manifest = read_manifest(folder)
    for file in manifest.files:
        found = file_sha256(folder / file.path)
        if found != file.sha256:
            raise InfrastructureError(
                f"{folder / file.path}: sha256 {found}, expected {file.sha256}", code="folder_damaged"
            )
    return manifest


def file_sha256(path: Path) -> str:
    """sha256 of a file in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files_below(folder: Path) -> list[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name != MANIFEST_NAME)
