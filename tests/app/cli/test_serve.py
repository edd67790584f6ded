"""`fusion serve` starts everything, mends what dies, and leaves nothing behind."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import psutil
import pytest

WAIT_SECONDS = 40.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "app.cli", "serve", "--data-dir", str(tmp_path / "data"), "--port", "0"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    yield process
    if process.poll() is None:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], object], log: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)


def worker_of(server: subprocess.Popen[bytes]) -> psutil.Process | None:
    for child in psutil.Process(server.pid).children():
        with suppress(psutil.NoSuchProcess):  # a zombie is one, too
            if "workers" in child.cmdline():
                return child
    return None


def test_serve_from_start_to_end(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "log"
    wait_for((data / "server.json").is_file, log)
    url = json.loads((data / "server.json").read_text())["url"]
    key = (data / "admin.key").read_text().strip()

    # The first request after the file appeared must not find a closed door.
    assert httpx2.get(f"{url}/livez", timeout=30).status_code == 200
    assert httpx2.get(f"{url}/v1/jobs", headers={"authorization": f"Bearer {key}"}).status_code == 200
    assert httpx2.get(f"{url}/v1/jobs").status_code == 401
    assert stat.S_IMODE((data / "admin.key").stat().st_mode) == 0o600
    assert url.startswith("http://127.0.0.1:")

    again = [sys.executable, "-m", "app.cli", "serve", "--data-dir", str(data), "--port", "0"]
    second_service = subprocess.run(again, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS)
    assert second_service.returncode == 2
    assert "another service runs in" in second_service.stderr

    first = worker_of(server)
    assert first is not None
    first.kill()
    wait_for(lambda: (found := worker_of(server)) is not None and found.pid != first.pid, log)

    second = worker_of(server)
    assert second is not None
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=WAIT_SECONDS) == 0
    assert not second.is_running() or second.status() == psutil.STATUS_ZOMBIE
    assert not (data / "server.json").exists()


def test_a_killed_service_takes_its_worker_along(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    wait_for((tmp_path / "data" / "server.json").is_file, tmp_path / "log")
    wait_for(lambda: "worker_started" in (tmp_path / "log").read_text(), tmp_path / "log")
    worker = worker_of(server)
    assert worker is not None

    os.kill(server.pid, signal.SIGKILL)
    server.wait()

    wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, tmp_path / "log")
