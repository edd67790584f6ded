"""Brings bytes of remote files: several files and ranges at once, resumed, from the store or the service.

A range from the service asks with `If-Range`, so a file that changed meanwhile cannot be stitched together
from two versions; the store keeps bytes under their digest, where they never change. A cut connection
continues at the byte it stopped at.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from app.client.errors import ApiError, DownloadError, UnreachableError, error_from_response
from app.client.ranges import ByteRange, PartialFile
from app.client.transport import RETRIED_STATUSES, Transport, backoff_seconds, retry_after_seconds

MAX_BARREN_TRIES = 8
LINK_MARGIN_SECONDS = 30
LINK_SECONDS = 3600
OnProgress = Callable[[int, int], None]


@dataclass(kw_only=True)
class RemoteFile:
    """A file to be fetched.

    content: path of its bytes in the service. link_request: path and body of the request that makes a link to
    the store; None where there is none to ask.
    """

    path: str
    size: int
    sha256: str
    content: httpx2.URL
    link_request: tuple[str, dict[str, Any]] | None = None
    _link: str | None = None
    _link_expires_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def link(self, transport: Transport) -> str | None:
        """A link to the bytes in the store; None where the service hands them out itself."""
        with self._lock:
            if self.link_request is None:
                return None
            if self._link is None or time.time() > self._link_expires_at - LINK_MARGIN_SECONDS:
                self._ask_for_link(transport)
            return self._link

    def forget_link(self, link: str) -> None:
        """The link does not work (any more)."""
        with self._lock:
            if self._link == link:
                self._link = None

    def stay_with_the_service(self) -> None:
        """The store cannot be reached from here."""
        with self._lock:
            self.link_request = self._link = None

    def _ask_for_link(self, transport: Transport) -> None:
        assert self.link_request is not None, "asked before"
        path, body = self.link_request
        try:
            answer = transport.request("POST", path, json=body, repeatable=True)
        except ApiError:
            # Whatever is wrong, the service's own answer to the download will say it.
            answer = {"served_by": "api"}
        if answer["served_by"] != "storage":
            self.link_request = None
            return
        self._link, self._link_expires_at = answer["url"], float(answer["expires_at"])


class Counter:
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


def fetch_files(
    transport: Transport,
    files: Sequence[RemoteFile],
    into: Path,
    *,
    parallel: int,
    range_bytes: int,
    counter: Counter,
    sha256_of: Callable[[Path], str],
) -> list[RemoteFile]:
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
                pool.submit(_RangeFetch(transport, file, partial, part, counter=counter, stop=stop).run)
                for file, partial in zip(files, partials, strict=True)
                for part in partial.ranges
            ],
            stop=stop,
        )
        digests = list(pool.map(lambda partial: sha256_of(partial.partial_path), partials))
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


class _RangeFetch:
    """Fetches one range; gives up after `MAX_BARREN_TRIES` tries in a row that brought no byte."""

    def __init__(
        self,
        transport: Transport,
        file: RemoteFile,
        partial: PartialFile,
        part: ByteRange,
        *,
        counter: Counter,
        stop: threading.Event,
    ) -> None:
        self._transport = transport
        self._file = file
        self._partial = partial
        self._part = part
        self._counter = counter
        self._stop = stop

    def run(self) -> None:
        barren = 0
        while self._offset < self._part.end and not self._stop.is_set():
            before, pause, link = self._offset, None, None
            try:
                link = self._file.link(self._transport)
                pause = self._read_once(link)
            except UnreachableError:
                if barren >= MAX_BARREN_TRIES:
                    raise
            except httpx2.TransportError as error:
                if link is not None and self._offset == before and barren:
                    # Twice in a row: the service knows the way to its store, this machine perhaps not.
                    self._file.stay_with_the_service()
                elif barren >= MAX_BARREN_TRIES:
                    raise self._transport.unreachable(error) from error
            if self._offset >= self._part.end:
                return
            barren = 0 if self._offset > before else barren + 1
            if barren > MAX_BARREN_TRIES:
                raise DownloadError(
                    f"{self._file.path}: no byte in {barren} tries; try again later, what is here is kept"
                )
            self._transport.pause(pause if pause is not None else backoff_seconds(barren))

    @property
    def _offset(self) -> int:
        """Of the first byte that is missing."""
        return self._partial.reached(self._part)

    def _read_once(self, link: str | None) -> float | None:
        """One request for what is missing of the range. Returns a pause that was asked for, if any."""
        headers = {"range": f"bytes={self._offset}-{self._part.end - 1}", "accept-encoding": "identity"}
        if link is None:
            client, url = self._transport.http, self._file.content
            headers["if-range"] = f'"{self._file.sha256}"'
        else:
            client, url = self._transport.bare, httpx2.URL(link)
        with client.stream("GET", url, headers=headers) as response:
            if response.status_code in RETRIED_STATUSES:
                return retry_after_seconds(response)
            if response.is_error and link is not None:
                self._file.forget_link(link)
                return None
            if response.is_error:
                response.read()
                raise error_from_response(response)
            self._check_range(response)
            for data in response.iter_raw():
                if self._stop.is_set():
                    return None
                if self._offset + len(data) > self._part.end:
                    raise DownloadError(f"{self._file.path}: the server sent more bytes than asked for")
                self._partial.write(self._part, data)
                self._counter.add(len(data))
        return None

    def _check_range(self, response: httpx2.Response) -> None:
        size = self._file.size
        expected = f"bytes {self._offset}-{self._part.end - 1}/{size}"
        whole = response.status_code == 200 and self._offset == 0 and self._part.end == size
        if not whole and response.headers.get("content-range") != expected:
            raise DownloadError(
                f"{self._file.path}: asked for {expected}, got HTTP {response.status_code} "
                f"{response.headers.get('content-range', 'without a range')}: the file changed on the server",
                hint="remove the .partial files and download again",
            )
