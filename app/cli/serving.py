"""The embedded service: API in this process, one worker in another, all under one data folder."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import uvicorn

from app.accounts.bootstrap import ensure_admin_key
from app.cli.connection import ADMIN_KEY_FILE, SERVER_FILE
from app.cli.paths import explained_path_errors
from app.db.migrate import upgrade
from app.logs import get_logger
from app.main import create_app
from app.settings import Settings
from fusion.errors import UserError

WORKER_STOP_SECONDS = 30.0
"""What a worker needs to end, beside the time in which its stage may store what it has."""
MAX_RESTART_PAUSE_SECONDS = 30.0
_STEADY_SECONDS = 60.0

log = get_logger(__name__)
Announce = Callable[[str, Path], None]


def run_service(settings: Settings, *, with_worker: bool, announce: Announce) -> None:
    """Serve until SIGTERM or Ctrl-C; then nothing of it is left running."""
    with explained_path_errors(code="data_dir_unusable", hint="give another --data-dir"):
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _only_service_in(settings.data_dir):
        _run(settings, with_worker=with_worker, announce=announce)


def _run(settings: Settings, *, with_worker: bool, announce: Announce) -> None:
    upgrade(settings.database_url, worker_role=settings.worker_role)
    app = create_app(settings)
    key_file = settings.data_dir / ADMIN_KEY_FILE
    ensure_admin_key(app.state.engine, path=key_file, pepper=app.state.key_pepper)
    # uvicorn raises the signal again when it has shut down; the default action would end us half-way.
    signal.signal(signal.SIGTERM, _exit)
    with _listening(settings) as (listener, url), _server_file(settings.data_dir, url):
        announce(url, key_file)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, server_header=False))
        with WorkerProcess(settings) if with_worker else _nothing(), suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


class WorkerProcess:
    """The worker, started again when it ends on its own, stopped with everything it started."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep_running, name="worker-keeper", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _keep_running(self) -> None:
        """Start, wait, start again. The worker is tied to this thread, which lives as long as the service."""
        pause = 1.0
        while not self._stop.is_set():
            started = time.monotonic()
            process = self._start()
            while process.poll() is None and not self._stop.wait(0.2):
                pass
            if self._stop.is_set():
                _end(process, within_seconds=self._settings.checkpoint_grace_seconds + WORKER_STOP_SECONDS)
                return
            log.warning("worker_ended", returncode=process.returncode)
            pause = 1.0 if time.monotonic() - started > _STEADY_SECONDS else pause
            self._stop.wait(pause)
            pause = min(pause * 2, MAX_RESTART_PAUSE_SECONDS)

    def _start(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C in the terminal is ours to pass on, in our order.
        return subprocess.Popen(
            [sys.executable, "-m", "workers", "--parent", str(os.getpid())],
            env={**os.environ, **environment_of(self._settings)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings as another process of the same service has to see them."""
    return {
        "FUSION_DATA_DIR": str(settings.data_dir),
        "FUSION_DATABASE_URL": settings.database_url,
        "FUSION_STORAGE_URL": settings.storage_url,
        "FUSION_ALLOWED_ROOTS": os.pathsep.join(str(root) for root in settings.allowed_roots),
    }


@contextmanager
def _listening(settings: Settings) -> Iterator[tuple[socket.socket, str]]:
    """Listen before anybody is told the address, so that the first request finds us."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=128)
    except OSError as error:
        raise UserError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}",
            code="address_unavailable",
            hint="choose another --port (0 takes a free one) or --host",
        ) from error
    with listener:
        port = listener.getsockname()[1]
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
        yield listener, f"http://{host}:{port}"


@contextmanager
def _only_service_in(data_dir: Path) -> Iterator[None]:
    """Hold the data folder; the kernel lets go of it however this process ends."""
    with explained_path_errors(code="data_dir_unusable", hint="give another --data-dir"):
        descriptor = os.open(data_dir / ".serve.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another service runs in {data_dir}",
                code="data_dir_in_use",
                hint="use that one, or give another --data-dir",
            ) from error
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _server_file(data_dir: Path, url: str) -> Iterator[None]:
    """Say where we are while we are there."""
    path = data_dir / SERVER_FILE
    temporary = path.with_name(f".{SERVER_FILE}.new")
    temporary.write_text(json.dumps({"url": url, "pid": os.getpid()}) + "\n", encoding="utf-8")
    temporary.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _end(process: subprocess.Popen[bytes], *, within_seconds: float) -> None:
    """Let the worker give its step back; kill it when it does not end."""
    process.terminate()
    try:
        process.wait(timeout=within_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _exit(number: int, _frame: FrameType | None) -> None:
    log.warning("service_stopped", signal=signal.Signals(number).name)
    raise SystemExit(0)
