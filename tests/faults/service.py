"""The whole service as processes that a test may kill: API, workers, housekeeper, and their servers."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sqlalchemy import Engine, make_url

from app.client import FusionClient
from app.settings import Settings
from app.storage.opening import open_store
from app.storage.store import ObjectStore
from fusion.plan import STAGES
from tests.faults.controls import CONTROL_VARIABLE
from tests.faults.hash_chain import SAMPLE_SECONDS_VARIABLE
from tests.faults.processes import PostgresServer, Process, RedisServer, python
from tests.support.fault_proxy import FaultProxy
from tests.support.prepared_service import answers, prepare_service, prepare_with
from tests.support.server_folders import server_folder
from tests.support.services import free_port

Profile = Literal["sqlite", "postgresql"]
LEASE_SECONDS = 4
STALL_SECONDS = 8
WAIT_SECONDS = 60.0
QUICK = {
    "FUSION_LEASE_SECONDS": str(LEASE_SECONDS),
    "FUSION_HEARTBEAT_SECONDS": "0.5",
    "FUSION_RECONCILE_SECONDS": "0.5",
    "FUSION_POLL_SECONDS": "0.3",
    "FUSION_STALL_SECONDS": json.dumps(dict.fromkeys(STAGES, STALL_SECONDS)),
    "FUSION_GC_SECONDS": "3",
    "FUSION_GC_GRACE_SECONDS": "5",
    "FUSION_LOG_LEVEL": "WARNING",
}


@dataclass(kw_only=True)
class Service:
    """A running service. `engine` and `store` reach database and files past every proxy."""

    profile: Profile
    folder: Path
    settings: Settings
    engine: Engine
    store: ObjectStore
    url: str
    key: str
    processes: dict[str, Process]
    postgres: PostgresServer | None = None
    redis: RedisServer | None = None
    proxies: dict[str, FaultProxy] = field(default_factory=dict)

    @property
    def workers(self) -> list[Process]:
        return [process for name, process in self.processes.items() if name.startswith("worker")]

    @property
    def failpoints(self) -> Path:
        return self.folder / "failpoints"

    def client(self) -> FusionClient:
        return FusionClient(self.url, self.key)

    def arm(self, name: str, action: str = "kill") -> None:
        """Arm a failpoint: the first process of the service that gets there acts."""
        new = self.failpoints / f".{name}"
        new.write_text(action, encoding="ascii")
        new.rename(self.failpoints / name)

    def has_fired(self, name: str) -> bool:
        return any(self.failpoints.glob(f"{name}.*.fired"))

    def restart_dead(self) -> list[str]:
        """Start what has died; the names of it."""
        dead = [name for name, process in self.processes.items() if not process.is_running]
        for name in dead:
            self.processes[name].start()
        return dead

    def log_text(self) -> str:
        return "".join(process.log.read_text(errors="replace") for process in self.processes.values())


@contextmanager
def running_service(
    folder: Path,
    profile: Profile,
    *,
    num_workers: int = 2,
    num_celery_workers: int = 0,
    num_housekeepers: int = 1,
    with_proxies: bool = False,
    control: str | None = None,
    sample_seconds: float = 0.03,
    environment: dict[str, str] | None = None,
    checkout: Path | None = None,
    storage_url: str = "",
) -> Iterator[Service]:
    """Start everything, from another checkout when one is given; at the end nothing of it is left.

    Bytes are stored in a folder of its own where `storage_url` names no other place.
    """
    with ExitStack() as held:
        (folder / "failpoints").mkdir(parents=True)
        common = {
            **QUICK,
            "FUSION_DATA_DIR": str(folder / "data"),
            "FUSION_STORAGE_URL": storage_url,
            "FAILPOINTS_DIR": str(folder / "failpoints"),
            SAMPLE_SECONDS_VARIABLE: str(sample_seconds),
            "OMP_NUM_THREADS": "1",
            **({CONTROL_VARIABLE: control} if control else {}),
            **(environment or {}),
        }
        # Not below `folder`: PostgreSQL runs as another user, who may not look into a test's folder.
        postgres = (
            PostgresServer(held.enter_context(server_folder("postgres"))) if profile == "postgresql" else None
        )
        redis = RedisServer(held.enter_context(server_folder("redis"))) if num_celery_workers else None
        servers = _Servers(postgres, redis, with_proxies=with_proxies)
        held.callback(servers.stop)
        settings = Settings(
            data_dir=folder / "data", database_url=servers.database_url, storage_url=storage_url
        )
        engine, key = prepare_service(settings) if checkout is None else prepare_with(checkout, settings)
        held.callback(engine.dispose)
        port = free_port()
        programs = {
            "api": ["api", str(port)],
            **{f"worker{number}": ["worker"] for number in range(num_workers)},
            **{f"worker{number + num_workers}": ["celery"] for number in range(num_celery_workers)},
            **{f"housekeeper{number}": ["housekeeper"] for number in range(num_housekeepers)},
        }
        processes = {
            name: Process(
                name,
                python("-m", "tests.faults.entry", *arguments),
                environment={**common, **servers.environment_of(name)},
                log=folder / f"{name}.log",
                checkout=checkout,
            )
            for name, arguments in programs.items()
        }
        for process in processes.values():
            held.callback(process.stop)
            process.start()
        service = Service(
            profile=profile,
            folder=folder,
            settings=settings,
            engine=engine,
            store=open_store(settings.storage_url),
            url=f"http://127.0.0.1:{port}",
            key=key,
            processes=processes,
            postgres=servers.postgres,
            redis=servers.redis,
            proxies=servers.proxies,
        )
        wait_for(lambda: answers(service.url), what="the API")
        yield service


class _Servers:
    """Database and broker, with a proxy before each for the workers and one for the API."""

    def __init__(
        self, postgres: PostgresServer | None, redis: RedisServer | None, *, with_proxies: bool
    ) -> None:
        self.postgres = postgres
        self.redis = redis
        self.database_url = self.postgres.url if self.postgres else ""
        self.proxies: dict[str, FaultProxy] = {}
        if with_proxies and self.postgres:
            self.proxies["workers-database"] = FaultProxy("127.0.0.1", self.postgres.port)
            self.proxies["api-database"] = FaultProxy("127.0.0.1", self.postgres.port)
        if with_proxies and self.redis:
            self.proxies["broker"] = FaultProxy("127.0.0.1", self.redis.port)

    def environment_of(self, process: str) -> dict[str, str]:
        """Where a process finds its servers."""
        found: dict[str, str] = {}
        if self.postgres:
            proxy = self.proxies.get("api-database" if process == "api" else "workers-database")
            port = proxy.port if proxy else self.postgres.port
            found["FUSION_DATABASE_URL"] = (
                make_url(self.postgres.url).set(port=port).render_as_string(hide_password=False)
            )
        if self.redis:
            broker = self.proxies.get("broker")
            found["FUSION_BROKER_URL"] = f"redis://127.0.0.1:{broker.port if broker else self.redis.port}/0"
        return found

    def stop(self) -> None:
        for proxy in self.proxies.values():
            proxy.close()
        for server in (self.redis, self.postgres):
            if server is not None:
                server.stop()


def wait_for(condition: Callable[[], bool], *, what: str, seconds: float = WAIT_SECONDS) -> float:
    """Wait until the condition holds; how many seconds it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.02)
    return time.monotonic() - started
