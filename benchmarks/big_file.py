"""`python -m benchmarks.big_file`: what a large file costs the API in memory, on its way in and out.

Starts the API as a process of its own on an empty data folder, sends it a file of lines that differ, and
fetches it again: whole, and as parallel ranges. Prints the resident memory before, and by how much its peak
was higher; ends with 1 when that is beyond the limit.
"""

import argparse
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from app.accounts.bootstrap import ensure_admin_key
from app.accounts.secret_files import load_pepper
from app.db.migrate import upgrade
from app.db.session import create_engine
from app.settings import Settings
from benchmarks.process_memory import peak_bytes, reset_peak, resident_bytes

_START_SECONDS = 60.0
_PIECE_BYTES = 1 << 20
_NUM_CONNECTIONS = 8
_MB = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Api:
    """A service of which nobody else makes use."""

    pid: int
    http: httpx2.Client


def main() -> int:
    """Measure and print; returns 1 when something cost more than the limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.big_file", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--folder", type=Path, help="Where to work; the system's temporary folder.")
    parser.add_argument("--limit-mb", type=float, default=100.0)
    options = parser.parse_args()
    num_bytes = int(options.gigabytes * 1e9)
    with tempfile.TemporaryDirectory(dir=options.folder) as name, _api(Path(name), num_bytes) as api:
        grown = [
            _measured(api, "upload", num_bytes, lambda: _upload(api, num_bytes)),
            _measured(api, "download", num_bytes, lambda: _download(api, num_bytes)),
            _measured(
                api, f"{_NUM_CONNECTIONS} ranges at a time", num_bytes, lambda: _ranges(api, num_bytes)
            ),
        ]
    return int(max(grown) > options.limit_mb)


def _measured(api: Api, what: str, num_bytes: int, act: Callable[[], None]) -> float:
    reset_peak(api.pid)
    before, began = resident_bytes(api.pid), time.monotonic()
    act()
    seconds = time.monotonic() - began
    grown = (peak_bytes(api.pid) - before) / _MB
    speed = num_bytes / seconds / _MB
    print(
        f"{what}: {num_bytes / 1e9:g} GB, {speed:.0f} MB/s, {before / _MB:.0f} MB + {grown:.1f} MB",
        flush=True,
    )
    return grown


def _pieces(num_bytes: int) -> Iterator[bytes]:
    """Lines of text, no two pieces alike."""
    line = b"the quick brown fox jumps over the lazy dog and is seen by all of them "
    body = (line * (_PIECE_BYTES // len(line) + 1))[: _PIECE_BYTES - 17]
    for start in range(0, num_bytes, _PIECE_BYTES):
        piece = b"%016d" % start + body + b"\n"
        yield piece[: num_bytes - start]


def _upload(api: Api, num_bytes: int) -> None:
    headers = {"Content-Length": str(num_bytes)}
    answer = api.http.post("/v1/files?filename=big.txt", content=_pieces(num_bytes), headers=headers)
    answer.raise_for_status()
    assert answer.json()["bytes"] == num_bytes


def _file(api: Api) -> tuple[str, str]:
    file = api.http.get("/v1/files").raise_for_status().json()["data"][0]
    return f"/v1/files/{file['id']}/content", file["sha256"]


def _download(api: Api, num_bytes: int) -> None:
    url, sha256 = _file(api)
    digest = hashlib.sha256()
    with api.http.stream("GET", url) as answer:
        for piece in answer.raise_for_status().iter_raw():
            digest.update(piece)
    assert digest.hexdigest() == sha256


def _ranges(api: Api, num_bytes: int) -> None:
    url, _ = _file(api)
    length = -(-num_bytes // _NUM_CONNECTIONS)

    def fetch(start: int) -> int:
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        with api.http.stream("GET", url, headers=headers) as answer:
            assert answer.status_code == 206
            return sum(len(piece) for piece in answer.iter_raw())

    with ThreadPoolExecutor(_NUM_CONNECTIONS) as threads:
        assert sum(threads.map(fetch, range(0, num_bytes, length))) == num_bytes


@contextmanager
def _api(folder: Path, num_bytes: int) -> Iterator[Api]:
    """uvicorn on a free port, without housekeeping."""
    free = shutil.disk_usage(folder).free
    if free < 2 * num_bytes:
        raise SystemExit(f"{folder} has {free / 1e9:.1f} GB free, {2 * num_bytes / 1e9:.1f} GB are needed")
    settings = Settings(data_dir=folder, max_upload_bytes=num_bytes, housekeeping=False)
    upgrade(settings.database_url)
    engine = create_engine(settings.database_url)
    key = ensure_admin_key(engine, path=folder / "key", pepper=load_pepper(settings.key_pepper_file))
    engine.dispose()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = os.environ | {
        "FUSION_DATA_DIR": str(folder),
        "FUSION_MAX_UPLOAD_BYTES": str(num_bytes),
        "FUSION_HOUSEKEEPING": "false",
        "FUSION_LOG_LEVEL": "WARNING",
    }
    words = [sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", "--port", str(port)]
    process = subprocess.Popen([*words, "--no-access-log"], env=environment)
    try:
        url, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {key}"}
        with httpx2.Client(base_url=url, headers=headers, timeout=600) as http:
            _wait_for(http, process)
            yield Api(pid=process.pid, http=http)
    finally:
        process.terminate()
        process.wait()


def _wait_for(http: httpx2.Client, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            # A whole request, so that what is imported on the first one is not counted as the file's.
            http.get("/v1/files").raise_for_status()
            return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise SystemExit("the API does not answer")


if __name__ == "__main__":
    sys.exit(main())
