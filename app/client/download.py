"""Download of an artifact, or of one file: complete and verified, or it says why not."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import httpx2

from app.client.errors import DownloadError
from app.client.fetching import LINK_SECONDS, Counter, OnProgress, RemoteFile, fetch_files
from app.client.ranges import RANGE_BYTES
from app.client.resources.results import Artifact, ArtifactFile
from app.client.transport import Transport

MIN_LINKED_BYTES = 8 << 20
"""For less it is not worth asking where else the bytes could come from."""
MANIFEST_NAME = "manifest.json"

__all__ = ["OnProgress", "download_artifact", "download_bytes"]


def download_artifact(
    transport: Transport,
    artifact: Artifact,
    into: Path,
    *,
    parallel: int,
    range_bytes: int = RANGE_BYTES,
    on_progress: OnProgress | None = None,
) -> Path:
    """Bring all files of an artifact into a folder and verify them.

    Files that are already there with the right digest are kept; unfinished ones are continued.

    Args:
        parallel: connections at a time.
        on_progress: told (bytes present, bytes in all) now and then, from several threads.

    Raises:
        DownloadError: wrong digest, a file that changed, an unsafe path, or too little room.
    """
    _check_paths(artifact)
    files = [_remote(artifact, file) for file in artifact.files]
    _download(transport, files, into, parallel=parallel, range_bytes=range_bytes, on_progress=on_progress)
    _check_manifest(artifact, into)
    return into


def download_bytes(
    transport: Transport,
    content: httpx2.URL,
    to: Path,
    *,
    size: int,
    sha256: str,
    parallel: int,
    on_progress: OnProgress | None = None,
) -> Path:
    """Bring one file of the service to `to` and verify it.

    Raises:
        DownloadError: wrong digest, a file that changed, or too little room.
    """
    file = RemoteFile(path=to.name, size=size, sha256=sha256, content=content)
    _download(
        transport, [file], to.parent, parallel=parallel, range_bytes=RANGE_BYTES, on_progress=on_progress
    )
    return to


def _remote(artifact: Artifact, file: ArtifactFile) -> RemoteFile:
    return RemoteFile(
        path=file.path,
        size=file.size,
        sha256=file.sha256,
        content=httpx2.URL(f"/v1/artifacts/{artifact.id}/content", params={"path": file.path}),
        link_request=None
        if file.size < MIN_LINKED_BYTES
        else (
            f"/v1/artifacts/{artifact.id}/download_url",
            {"path": file.path, "expires_in": LINK_SECONDS},
        ),
    )


def _download(
    transport: Transport,
    files: Sequence[RemoteFile],
    into: Path,
    *,
    parallel: int,
    range_bytes: int,
    on_progress: OnProgress | None,
) -> None:
    missing = [file for file in files if not _is_there(into, file)]
    _check_room(into, missing)
    total = sum(file.size for file in files)
    counter = Counter(total, on_progress)
    counter.add(total - sum(file.size for file in missing))
    # One more round for files whose resumed bytes turn out to be wrong: they start from nothing.
    for _ in range(2):
        missing = fetch_files(
            transport,
            missing,
            into,
            parallel=parallel,
            range_bytes=range_bytes,
            counter=counter,
            sha256_of=_sha256,
        )
        if not missing:
            return
    raise DownloadError(f"{missing[0].path}: the bytes do not have the promised sha256 {missing[0].sha256}")


def _check_paths(artifact: Artifact) -> None:
    """A server must not choose where on this machine a file lands."""
    for file in artifact.files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in file.path:
            raise DownloadError(f"{artifact.id} names the file {file.path!r}, which lies outside the folder")


def _check_room(into: Path, files: Sequence[RemoteFile]) -> None:
    into.mkdir(parents=True, exist_ok=True)
    needed, free = sum(file.size for file in files), shutil.disk_usage(into).free
    if needed > free:
        raise DownloadError(
            f"{into} has room for {free} bytes, {needed} are needed",
            hint="free some space or choose another --out",
        )


def _is_there(into: Path, file: RemoteFile) -> bool:
    path = into / file.path
    return path.is_file() and path.stat().st_size == file.size and _sha256(path) == file.sha256


def _check_manifest(artifact: Artifact, into: Path) -> None:
    """The manifest in the folder must tell the same story as the service did."""
    path = into / MANIFEST_NAME
    if not path.is_file():
        return
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    promised = {file.path: file.sha256 for file in artifact.files if file.path != MANIFEST_NAME}
    written = {file["path"]: file["sha256"] for file in manifest["files"]}
    if promised != written:
        different = sorted(
            name for name in promised.keys() | written.keys() if promised.get(name) != written.get(name)
        )
        raise DownloadError(f"{MANIFEST_NAME} and the service disagree about {', '.join(different)}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
