"""Reads the `manifest.json` that the engine writes last into every finished folder.

The format is the engine's; the service cannot import it (the engine's packages need numpy and torch), so the
few fields it relies on are typed here, and a contract test holds both sides together.
"""

import hashlib
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from app.storage.digests import file_sha256
from fusion.errors import InfrastructureError

MANIFEST_NAME = "manifest.json"


class ManifestFile(BaseModel):
    """A file of a folder: path relative to the folder with `/`, size in bytes, sha256 in hexadecimal."""

    model_config = ConfigDict(frozen=True)

    path: str
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @field_validator("path")
    @classmethod
    def _stays_in_the_folder(cls, path: str) -> str:
        return check_relative_path(path)


class FolderManifest(BaseModel):
    """Contents of a finished folder."""

    model_config = ConfigDict(frozen=True)

    format_version: Literal[1]
    kind: str
    files: tuple[ManifestFile, ...]
    meta: dict[str, Any] = {}

    @property
    def digest(self) -> str:
        """sha256 over the digests and names of the files: equal for folders with equal contents."""
        lines = "".join(f"{file.sha256}  {file.path}\n" for file in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()


def check_relative_path(path: str) -> str:
    """Refuse a path that could point outside its folder, or that two systems read differently.

    Raises:
        ValueError: says what is wrong with it.
    """
    if not path or any(ord(char) < 32 or ord(char) == 127 for char in path):
        raise ValueError(f"path {path!r} is empty or holds control characters")
    parts = path.split("/")
    if "\\" in path or PurePosixPath(path).is_absolute() or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"path {path!r} must be relative, with / between names and without . or ..")
    return path


def read_folder_manifest(folder: Path) -> FolderManifest:
    """Read the manifest of a finished folder.

    Raises:
        InfrastructureError: there is none, or it is not one this service understands.
    """
    try:
        return FolderManifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    except FileNotFoundError as error:
        raise InfrastructureError(
            f"{folder} holds no {MANIFEST_NAME}: it is unfinished", code="folder_unfinished"
        ) from error
    except ValidationError as error:
        raise InfrastructureError(f"{folder / MANIFEST_NAME}: {error}", code="manifest_unreadable") from error


def describe_file(folder: Path, path: str) -> ManifestFile:
    """Size and digest of a file as it is on the disk now."""
    file = folder / path
    return ManifestFile(path=path, size=file.stat().st_size, sha256=file_sha256(file))


def check_file(folder: Path, expected: ManifestFile) -> Path:
    """The file on disk, if it is a plain one of the right size; storing it checks its bytes.

    Raises:
        InfrastructureError: it is missing, is no plain file, or differs.
    """
    path = folder / expected.path
    if path.is_symlink() or not path.is_file():
        raise InfrastructureError(f"{path} is missing or no plain file", code="folder_damaged")
    size = path.stat().st_size
    if size != expected.size:
        raise InfrastructureError(f"{path}: {size} bytes, expected {expected.size}", code="folder_damaged")
    return path
