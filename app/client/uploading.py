"""Upload of a large file in parts: several at once, continued after any interruption, verified at the end.

Nothing is remembered on this side. The digest of the file finds the upload that somebody began, and the
digests of its parts tell which of them are there.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.client.errors import ConflictError
from app.client.resources.files import File
from app.client.transport import Transport

PART_BYTES = 16 << 20
COMPLETE_TIMEOUT_SECONDS = 900.0
"""Putting the parts together takes the service as long as reading and writing the file."""
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class FilePart:
    """Bytes `start` up to, not including, `end` of the file."""

    start: int
    end: int
    sha256: str

    @property
    def size(self) -> int:
        return self.end - self.start


def upload_in_parts(
    transport: Transport,
    path: Path,
    *,
    purpose: str,
    parallel: int = 4,
    part_bytes: int = PART_BYTES,
    on_progress: OnProgress | None = None,
) -> File:
    """Upload a file, or what is still missing of it.

    Args:
        on_progress: told (bytes there, bytes in all) after each part, from several threads.

    Raises:
        InvalidRequestError: the file changed while it was sent, or the service does not want it.
        UnreachableError: the service does not answer; what is there stays for a day, so call again.
    """
    parts, sha256 = _cut(path, part_bytes=part_bytes)
    announced = {"filename": path.name, "purpose": purpose, "bytes": parts[-1].end, "sha256": sha256}
    upload = _find(transport, announced) or transport.request("POST", "/v1/uploads", json=announced)
    present = {part["sha256"]: part["id"] for part in upload["parts"]}
    ids = present | _send(
        transport,
        path,
        [part for part in parts if part.sha256 not in present],
        upload_id=upload["id"],
        parallel=parallel,
        counter=_Counter(parts, present, on_progress),
    )
    promise = {"part_ids": [ids[part.sha256] for part in parts], "sha256": sha256}
    done = transport.request(
        "POST",
        f"/v1/uploads/{upload['id']}/complete",
        build=lambda: {"json": promise, "timeout": COMPLETE_TIMEOUT_SECONDS},
        repeatable=True,
    )
    if done["file"] is None:
        raise ConflictError(
            f"{done['file_id']} was deleted as soon as it was there", status=409, code="file_deleted"
        )
    return File.model_validate(done["file"])


def _find(transport: Transport, announced: dict[str, Any]) -> dict[str, Any] | None:
    """The upload of this file that was not finished, with its parts."""
    asked = {"status": "pending", "sha256": announced["sha256"]}
    for found in transport.request("GET", "/v1/uploads", params=asked)["data"]:
        if all(found[name] == value for name, value in announced.items()):
            upload: dict[str, Any] = transport.request("GET", f"/v1/uploads/{found['id']}")
            return upload
    return None


def _send(
    transport: Transport,
    path: Path,
    parts: list[FilePart],
    *,
    upload_id: str,
    parallel: int,
    counter: "_Counter",
) -> dict[str, str]:
    """Send parts; their ids by digest. The first failure ends it, and what has arrived stays."""
    missing = {part.sha256: part for part in parts}

    def send(part: FilePart) -> tuple[str, str]:
        with path.open("rb") as file:
            file.seek(part.start)
            data = file.read(part.size)
        answer = transport.request(
            "POST",
            f"/v1/uploads/{upload_id}/parts",
            headers={"content-type": "application/octet-stream"},
            build=lambda: {"content": data},
            repeatable=True,
        )
        counter.add(part)
        # By what was meant to be sent: had the file changed, the whole would not be accepted.
        return part.sha256, answer["id"]

    with ThreadPoolExecutor(parallel, thread_name_prefix="upload") as pool:
        futures = [pool.submit(send, part) for part in missing.values()]
        done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
        if any(future.exception() for future in done):
            for future in waiting:
                future.cancel()
    return dict(future.result() for future in futures if not future.cancelled())


class _Counter:
    """Bytes of the file that are there, told to whoever asked. Equal parts count each time they occur."""

    def __init__(
        self, parts: list[FilePart], present: dict[str, str], on_progress: OnProgress | None
    ) -> None:
        self._size_by_digest: dict[str, int] = {}
        for part in parts:
            self._size_by_digest[part.sha256] = self._size_by_digest.get(part.sha256, 0) + part.size
        self._total = parts[-1].end
        self._present = sum(size for sha256, size in self._size_by_digest.items() if sha256 in present)
        self._lock = threading.Lock()
        self._on_progress = on_progress

    def add(self, part: FilePart) -> None:
        with self._lock:
            self._present += self._size_by_digest[part.sha256]
            if self._on_progress is not None:
                self._on_progress(self._present, self._total)


def _cut(path: Path, *, part_bytes: int) -> tuple[list[FilePart], str]:
    """The parts of a file with their digests, and the digest of the whole; it is read once."""
    parts: list[FilePart] = []
    whole = hashlib.sha256()
    for start, data in _pieces(path, part_bytes):
        whole.update(data)
        parts.append(FilePart(start=start, end=start + len(data), sha256=hashlib.sha256(data).hexdigest()))
    return parts, whole.hexdigest()


def _pieces(path: Path, size: int) -> Iterator[tuple[int, bytes]]:
    start = 0
    with path.open("rb") as file:
        while data := file.read(size):
            yield start, data
            start += len(data)
