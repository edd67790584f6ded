"""The API as a process of its own on a real socket, for what only the wire shows."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil

from app.accounts.bootstrap import ensure_admin_key
from app.accounts.secret_files import load_pepper
from app.db.migrate import upgrade
from app.db.session import create_engine
from app.settings import Settings
from tests.support.services import spawn, started, stop, wait_until


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiProcess:
    """Where it listens, an admin key, and what it takes of the machine."""

    url: str
    port: int
    key: str
    settings: Settings
    process: psutil.Process
    log: Path

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def memory_bytes(self) -> int:
        """Resident memory that is the process's own."""
        return int(self.process.memory_info().rss)


@contextmanager
def running_api(
    folder: Path, *, port: int | None = None, environment: dict[str, str] | None = None
) -> Iterator[ApiProcess]:
    """uvicorn on a free port, or on the one that is given; a second call in the same folder restarts it."""
    given = {
        "FUSION_DATA_DIR": str(folder / "data"),
        "FUSION_LOG_LEVEL": "WARNING",
        "FUSION_HOUSEKEEPING": "false",
        **(environment or {}),
    }
    settings = Settings(
        data_dir=folder / "data",
        database_url=given.get("FUSION_DATABASE_URL", ""),
        storage_url=given.get("FUSION_STORAGE_URL", ""),
    )
    key = _prepare(settings)
    log = folder / "api.log"

    def start(free: int) -> subprocess.Popen[bytes]:
        return _start(port or free, log=log, environment=given)

    with started(start) as (process, free):
        url = f"http://127.0.0.1:{port or free}"
        yield ApiProcess(
            url=url,
            port=port or free,
            key=key,
            settings=settings,
            process=psutil.Process(process.pid),
            log=log,
        )
        stop(process, signal.SIGTERM)


def _prepare(settings: Settings) -> str:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    upgrade(settings.database_url)
    engine = create_engine(settings.database_url)
    try:
        pepper = load_pepper(settings.key_pepper_file)
        return ensure_admin_key(engine, path=settings.data_dir / "admin.key", pepper=pepper)
    finally:
        engine.dispose()


def _start(port: int, *, log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", "--no-access-log"]
    words += ["--host", "127.0.0.1", "--port", str(port)]
    settings = [f"{name}={value}" for name, value in environment.items()]
    process = spawn(["env", *settings, *words], log, death_signal=signal.SIGTERM, user=None)

    def answers() -> bool:
        return httpx2.get(f"http://127.0.0.1:{port}/livez", timeout=5).is_success

    wait_until(answers, process=process, log=log, not_yet=httpx2.TransportError)
    return process
