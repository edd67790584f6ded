"""Download of an artifact: several files and ranges at once, resumed, every byte verified.

Each range asks with `If-Range`, so a file that changed meanwhile cannot be stitched together from two
versions. A cut connection continues at the byte it stopped at.
"""

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

import httpx2

from app.client.errors import DownloadError, error_from_response
from app.client.ranges import RANGE_BYTES, ByteRange, PartialFile
from app.client.resources import Artifact, ArtifactFile
from app.client.transport import RETRIED_STATUSES, Transport, backoff_seconds, retry_after_seconds

MANIFEST_NAME = "manifest.json"
MAX_BARREN_TRIES = 8
OnProgress = Callable[[int, int], None]


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
    missing = [file for file in artifact.files if not _is_there(into, file)]
    _check_room(into, missing)
    total = sum(file.size for file in artifact.files)
    counter = _Counter(total, on_progress)
    counter.add(total - sum(file.size for file in missing))
    # One more round for files whose resumed bytes turn out to be wrong: they start from nothing.
    for is_last in (False, True):
        missing = _download_files(
            transport, artifact, missing, into, parallel=parallel, range_bytes=range_bytes, counter=counter
        )
        if not missing:
            break
        if is_last:
            raise DownloadError(
                f"{missing[0].path}: the bytes do not have the promised sha256 {missing[0].sha256}"
            )
    _check_manifest(artifact, into)
    return into


def _download_files(
    transport: Transport,
    artifact: Artifact,
    files: Sequence[ArtifactFile],
    into: Path,
    *,
    parallel: int,
    range_bytes: int,
    counter: "_Counter",
) -> list[ArtifactFile]:
    """Fetch files; return those whose digest is wrong, with nothing of them left."""
    with ExitStack() as opened, ThreadPoolExecutor(parallel, thread_name_prefix="download") as pool:
        partials = [
            opened.enter_context(
                PartialFile(into / file.path, size=file.size, sha256=file.sha256, range_bytes=range_bytes)
            )
            for file in files
        ]
        counter.add(sum(partial.num_bytes_present for partial in partials))
        stop = threading.Event()
        _run_all(
            [
                pool.submit(
                    _fetch_range, transport, artifact, file, partial, part, counter=counter, stop=stop
                )
                for file, partial in zip(files, partials, strict=True)
                for part in partial.ranges
            ],
            stop=stop,
        )
        digests = list(pool.map(lambda partial: _sha256(partial.partial_path), partials))
    wrong = []
    for file, partial, digest in zip(files, partials, digests, strict=True):
        if digest == file.sha256:
            partial.finish()
        else:
            counter.add(-file.size)
            partial.discard()
            wrong.append(file)
    return wrong


def _run_all(futures: Sequence[Future[None]], *, stop: threading.Event) -> None:
    """Wait for all; after the first failure, or Ctrl-C, tell the others to stop where they are."""
    try:
        done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
    except BaseException:
        stop.set()
        raise
    if any(future.exception() for future in done):
        stop.set()
        for future in waiting:
            future.cancel()
        wait(futures)
    for future in futures:
        if not future.cancelled():
            future.result()


def _fetch_range(
    transport: Transport,
    artifact: Artifact,
    file: ArtifactFile,
    partial: PartialFile,
    part: ByteRange,
    *,
    counter: "_Counter",
    stop: threading.Event,
) -> None:
    """Fetch one range; give up after `MAX_BARREN_TRIES` tries in a row that brought no byte."""
    barren = 0
    while partial.reached(part) < part.end and not stop.is_set():
        before = partial.reached(part)
        try:
            pause = _read_once(transport, artifact, file, partial, part, counter=counter, stop=stop)
        except httpx2.TransportError as error:
            if barren >= MAX_BARREN_TRIES:
                raise transport.unreachable(error) from error
            pause = None
        if partial.reached(part) >= part.end:
            return
        barren = 0 if partial.reached(part) > before else barren + 1
        if barren > MAX_BARREN_TRIES:
            raise DownloadError(
                f"{file.path}: no byte in {barren} tries; try again later, what is here is kept"
            )
        transport.pause(pause if pause is not None else backoff_seconds(barren))


def _read_once(
    transport: Transport,
    artifact: Artifact,
    file: ArtifactFile,
    partial: PartialFile,
    part: ByteRange,
    *,
    counter: "_Counter",
    stop: threading.Event,
) -> float | None:
    """One request for what is missing of a range. Returns a pause that the service asked for, if any."""
    offset = partial.reached(part)
    headers = {
        "range": f"bytes={offset}-{part.end - 1}",
        "if-range": f'"{file.sha256}"',
        "accept-encoding": "identity",
    }
    url = f"/v1/artifacts/{artifact.id}/content"
    with transport.http.stream("GET", url, params={"path": file.path}, headers=headers) as response:
        if response.status_code in RETRIED_STATUSES:
            return retry_after_seconds(response)
        if response.is_error:
            response.read()
            raise error_from_response(response)
        expected = f"bytes {offset}-{part.end - 1}/{file.size}"
        whole = response.status_code == 200 and offset == 0 and part.end == file.size
        if not whole and response.headers.get("content-range") != expected:
            raise DownloadError(
                f"{file.path}: asked for {expected}, got HTTP {response.status_code} "
                f"{response.headers.get('content-range', 'without a range')}: the file changed on the server",
                hint="remove the .partial files and download again",
            )
        for data in response.iter_raw():
            if stop.is_set():
                return None
            if partial.reached(part) + len(data) > part.end:
                raise DownloadError(f"{file.path}: the server sent more bytes than asked for")
            partial.write(part, data)
            counter.add(len(data))
    return None


class _Counter:
    """Bytes so far, told to whoever asked."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self.total = total
        self._present = 0
        self._lock = threading.Lock()
        self._on_progress = on_progress

    def add(self, num_bytes: int) -> None:
        with self._lock:
            self._present += num_bytes
            if self._on_progress is not None:
                self._on_progress(self._present, self.total)


def _check_paths(artifact: Artifact) -> None:
    """A server must not choose where on this machine a file lands."""
    for file in artifact.files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in file.path:
            raise DownloadError(f"{artifact.id} names the file {file.path!r}, which lies outside the folder")


def _check_room(into: Path, files: Sequence[ArtifactFile]) -> None:
    into.mkdir(parents=True, exist_ok=True)
    needed, free = sum(file.size for file in files), shutil.disk_usage(into).free
    if needed > free:
        raise DownloadError(
            f"{into} has room for {free} bytes, {needed} are needed",
            hint="free some space or choose another --out",
        )


def _is_there(into: Path, file: ArtifactFile) -> bool:
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
