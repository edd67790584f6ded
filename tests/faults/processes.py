"""Processes of the service that are killed and started again, and servers that keep their port."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import redis

from tests.support.services import (
    PortTakenError,
    free_port,
    init_postgres,
    start_postgres,
    start_redis,
)

STOP_SECONDS = 40.0
START_TRIES = 20


class Process:
    """A program that may be killed at any moment and started again. Its output goes on in one log.

    `checkout` names the source tree whose packages it runs; None for the one of the tests. A change of it
    counts from the next start on.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        checkout: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self.checkout = checkout
        self._command = list(command)
        self._environment = {**os.environ, **environment}
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._popen is not None
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self._popen = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.checkout,
                env={**self._environment, **packages_of(self.checkout)},
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        if self.is_running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        if self._popen is not None:
            self._popen.wait()

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        assert self._popen is not None
        return self._popen.wait(timeout=STOP_SECONDS)

    def stop(self) -> None:
        """SIGTERM and patience; what it leaves behind is killed."""
        if self._popen is None:
            return
        family = descendants(self.pid)
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self._popen.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def stages(self) -> list[psutil.Process]:
        """The children that run a stage now."""
        return [] if not self.is_running else [one for one in descendants(self.pid) if is_stage(one)]


class PostgresServer:
    """A PostgreSQL that syncs to disk, so that it may be killed."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._data = init_postgres(folder)
        self._popen = start_postgres(self._data, port=self.port, durable=True)

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://fusion@127.0.0.1:{self.port}/postgres"

    def kill(self) -> None:
        """SIGKILL to the postmaster and every backend at once: no checkpoint, no goodbye."""
        family = [psutil.Process(self._popen.pid), *descendants(self._popen.pid)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family[1:], timeout=10)
        self._popen.wait()

    def start(self) -> None:
        """Start it again where it was; a killed server may need a moment to let go of its memory."""
        for last in (number == START_TRIES - 1 for number in range(START_TRIES)):
            try:
                self._popen = start_postgres(self._data, port=self.port, durable=True)
            except PortTakenError:
                if last:
                    raise
                time.sleep(0.5)
            else:
                return

    def stop(self) -> None:
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGINT)
            self._popen.wait(timeout=STOP_SECONDS)


class RedisServer:
    """A Redis of our own that forgets everything when it dies."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._popen = start_redis(folder, port=self.port)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()

    def start(self) -> None:
        self._popen = start_redis(self._folder, port=self.port)

    def freeze(self) -> None:
        self._popen.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._popen.send_signal(signal.SIGCONT)

    def forget_everything(self) -> None:
        """FLUSHALL; this server is ours alone."""
        with redis.Redis(port=self.port, socket_timeout=5) as client:
            client.flushall()

    def stop(self) -> None:
        if self._popen.poll() is None:
            self.thaw()
            self.kill()


def packages_of(checkout: Path | None) -> dict[str, str]:
    """What makes Python take our packages from a source tree, before those that are installed."""
    return {} if checkout is None else {"PYTHONPATH": str(checkout)}


def python(*arguments: str) -> list[str]:
    """A command of this interpreter."""
    return [sys.executable, *arguments]


def descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_stage(process: psutil.Process) -> bool:
    try:
        return "--events-fd" in process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
        return False
