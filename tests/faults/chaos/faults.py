"""What can happen to a running service. Every fault ends: a frozen process thaws, a full disk empties."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis

from tests.faults.processes import PostgresServer, RedisServer
from tests.faults.service import LEASE_SECONDS, STALL_SECONDS, Service
from tests.support.fault_proxy import FaultProxy

Undo = Callable[[], None]
BALLAST_NAME = "ballast"
PLACES_TO_DIE = (
    "step.claimed", "inputs.fetched", "child.started", "bytes.stored", "blob.written", "blob.renamed",
    "part.published", "checkpoint.forgotten", "output.recorded", "attempt.ending", "attempt.ended",
    "lease.renewed", "file.written", "file.renamed", "folder.written", "folder.replaced", "part.finished",
    "stage.finished", "job.recorded", "request.committed", "rings.taken", "rings.rung", "lease.expired",
    "workspace.reserved", "workspace.abandoned", "garbage.deleted",
)  # fmt: skip
PLACES_TO_FREEZE = ("attempt.ending", "bytes.stored", "inputs.fetched", "lease.renewed", "part.published")


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """A fault under way: what ends it, and after how many seconds."""

    undo: Undo | None = None
    after_seconds: float = 0.0


Fault = Callable[[Service, random.Random], Begun | None]
"""Does its harm; None when there was nothing to harm at the moment."""


def kill_api(service: Service, _rng: random.Random) -> Begun:
    service.processes["api"].kill()
    return Begun()


def kill_worker(service: Service, rng: random.Random) -> Begun:
    rng.choice(service.workers).kill()
    return Begun()


def kill_housekeeper(service: Service, rng: random.Random) -> Begun:
    rng.choice([one for name, one in service.processes.items() if name.startswith("housekeeper")]).kill()
    return Begun()


def kill_stage(service: Service, rng: random.Random) -> Begun | None:
    stage = _some_stage(service, rng)
    if stage is None:
        return None
    with suppress(psutil.NoSuchProcess):
        stage.kill()
    return Begun()


def drain_worker(service: Service, rng: random.Random) -> Begun:
    """What a deployment does: SIGTERM, and a new one is started."""
    rng.choice(service.workers).signal(signal.SIGTERM)
    return Begun()


def freeze_worker(service: Service, rng: random.Random) -> Begun:
    """SIGSTOP to a worker and its stage until well after the lease: they wake up as zombies."""
    worker = rng.choice(service.workers)
    frozen = [worker.pid, *(stage.pid for stage in worker.stages())]
    return _freeze(frozen, seconds=LEASE_SECONDS * rng.uniform(0.5, 2.5))


def freeze_supervisor(service: Service, rng: random.Random) -> Begun:
    """The stage works on while nobody listens."""
    return _freeze([rng.choice(service.workers).pid], seconds=LEASE_SECONDS * rng.uniform(0.5, 2.5))


def freeze_stage(service: Service, rng: random.Random) -> Begun | None:
    stage = _some_stage(service, rng)
    return None if stage is None else _freeze([stage.pid], seconds=STALL_SECONDS * rng.uniform(0.3, 1.5))


def die_at_a_place(service: Service, rng: random.Random) -> Begun:
    service.arm(rng.choice(PLACES_TO_DIE))
    return Begun()


def freeze_at_a_place(service: Service, rng: random.Random) -> Begun:
    place = rng.choice(PLACES_TO_FREEZE)
    service.arm(place, "stop")

    def thaw() -> None:
        (service.failpoints / place).unlink(missing_ok=True)
        for fired in service.failpoints.glob(f"{place}.*.fired"):
            _signal(int(fired.name.removeprefix(f"{place}.").split(".")[0]), signal.SIGCONT)

    return Begun(undo=thaw, after_seconds=LEASE_SECONDS * rng.uniform(1.0, 2.0))


def fail_a_write(service: Service, rng: random.Random) -> Begun:
    service.arm(rng.choice(("blob.written", "file.written", "folder.written")), "raise ENOSPC")
    return Begun()


def fill_disk(service: Service, rng: random.Random) -> Begun | None:
    """No byte is left for a few seconds. Only where the data lies on a disk of its own."""
    data = service.settings.data_dir
    if not data.is_mount():
        return None
    with suppress(OSError), (data / BALLAST_NAME).open("wb") as ballast:
        while True:
            ballast.write(bytes(1 << 16))
            ballast.flush()
    return Begun(undo=lambda: (data / BALLAST_NAME).unlink(missing_ok=True), after_seconds=rng.uniform(1, 4))


def kill_database(service: Service, rng: random.Random) -> Begun:
    server = _postgres(service)
    server.kill()
    return Begun(undo=server.start, after_seconds=rng.uniform(0.2, 4))


def delay_database(service: Service, rng: random.Random) -> Begun:
    proxy = _database_proxy(service, rng)
    proxy.delay_seconds = rng.uniform(0.01, 0.15)
    return Begun(undo=proxy.let_pass, after_seconds=rng.uniform(1, 5))


def cut_database(service: Service, rng: random.Random) -> Begun:
    _database_proxy(service, rng).cut()
    return Begun()


def swallow_database(service: Service, rng: random.Random) -> Begun:
    proxy = _database_proxy(service, rng)
    proxy.swallow()
    return Begun(undo=proxy.let_pass, after_seconds=rng.uniform(1, 2 * LEASE_SECONDS))


def cut_commit(service: Service, rng: random.Random) -> Begun:
    _database_proxy(service, rng).cut_next_commit(rng.choice(("before", "after")))
    return Begun()


def kill_broker(service: Service, rng: random.Random) -> Begun:
    server = _redis(service)
    server.kill()
    return Begun(undo=server.start, after_seconds=rng.uniform(0.2, 4))


def freeze_broker(service: Service, rng: random.Random) -> Begun:
    server = _redis(service)
    server.freeze()
    return Begun(undo=server.thaw, after_seconds=rng.uniform(1, 8))


def empty_broker(service: Service, _rng: random.Random) -> Begun | None:
    try:
        _redis(service).forget_everything()
    except redis.RedisError:
        return None
    return Begun()


def cut_broker(service: Service, rng: random.Random) -> Begun:
    proxy = service.proxies["broker"]
    proxy.cut()
    proxy.swallow()
    return Begun(undo=proxy.let_pass, after_seconds=rng.uniform(0.1, 6))


EVERYWHERE: dict[str, tuple[Fault, int]] = {
    "kill API": (kill_api, 3),
    "kill worker": (kill_worker, 4),
    "kill stage": (kill_stage, 4),
    "kill housekeeper": (kill_housekeeper, 2),
    "drain worker": (drain_worker, 2),
    "freeze worker and stage": (freeze_worker, 4),
    "freeze worker": (freeze_supervisor, 2),
    "freeze stage": (freeze_stage, 1),
    "die at a failpoint": (die_at_a_place, 6),
    "freeze at a failpoint": (freeze_at_a_place, 2),
    "disk full at one write": (fail_a_write, 2),
    "disk full": (fill_disk, 2),
}
WITH_SERVERS: dict[str, tuple[Fault, int]] = {
    **EVERYWHERE,
    "kill PostgreSQL": (kill_database, 2),
    "delay database": (delay_database, 2),
    "cut database": (cut_database, 3),
    "black-hole database": (swallow_database, 2),
    "cut a COMMIT": (cut_commit, 5),
    "kill Redis": (kill_broker, 2),
    "freeze Redis": (freeze_broker, 1),
    "FLUSHALL": (empty_broker, 2),
    "cut Redis": (cut_broker, 1),
}


def small_disk(folder: Path, *, num_bytes: int) -> bool:
    """Give a folder a disk of its own that can be filled; False where mounting is not allowed."""
    folder.mkdir(parents=True)
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        return False
    command = [mount, "-t", "tmpfs", "-o", f"size={num_bytes}", "chaos", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def remove_small_disk(folder: Path) -> None:
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def _freeze(pids: list[int], *, seconds: float) -> Begun:
    for pid in pids:
        _signal(pid, signal.SIGSTOP)

    def thaw() -> None:
        for pid in pids:
            _signal(pid, signal.SIGCONT)

    return Begun(undo=thaw, after_seconds=seconds)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _some_stage(service: Service, rng: random.Random) -> psutil.Process | None:
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        stages = [stage for worker in service.workers for stage in worker.stages()]
        if stages:
            return rng.choice(stages)
    return None


def _database_proxy(service: Service, rng: random.Random) -> FaultProxy:
    return service.proxies[rng.choice(("workers-database", "api-database"))]


def _postgres(service: Service) -> PostgresServer:
    assert service.postgres is not None
    return service.postgres


def _redis(service: Service) -> RedisServer:
    assert service.redis is not None
    return service.redis
