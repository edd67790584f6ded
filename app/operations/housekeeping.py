"""What happens regularly without anybody asking: the outbox is relayed, crashes are mended, garbage goes.

Each chore has a thread of its own: a broker that hangs, or a large bucket, delays nobody's lease. Any number
of processes may keep house at once.
"""

import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import SystemRandom
from typing import Final

from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from app.catalog.file_checks import FileChecker
from app.checkpoints.promoter import Promoter
from app.db.session import create_engine
from app.jobs.service import Reconciler
from app.logs import get_logger
from app.operations.garbage import collect_garbage
from app.publications.destinations import Outlets
from app.publications.publisher import Publisher
from app.queue import open_doorbell, relay_outbox
from app.sealing import load_seals
from app.settings import Settings
from app.storage.opening import open_store
from app.storage.store import ObjectStore
from app.webhooks.courier import open_courier
from fusion.errors import FusionError

_RELAY_EVERY_SECONDS: Final = 0.5
_WEBHOOKS_EVERY_SECONDS: Final = 1.0
_PUBLISHED_AT_ONCE: Final = 2
"""By one process, so that a model that takes hours does not hold up all others."""
_LOOK_SECONDS: Final = 0.2
STOP_SECONDS: Final = 10.0
"""Well within what systemd, Docker and Kubernetes wait before they kill."""

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Chore:
    """Something to do again and again; the first time after a random part of its period."""

    name: str
    every_seconds: float
    run: Callable[[], object]
    interrupt: Callable[[], object] | None = None
    """Makes a round that is under way end early."""

    def try_once(self) -> None:
        """One round; whatever goes wrong, the next one may succeed."""
        try:
            self.run()
        except DBAPIError as error:
            log.warning("database_unreachable", chore=self.name, error=str(error))
        except BrokerError as error:
            log.warning("broker_unreachable", chore=self.name, error=str(error))
        except (FusionError, OSError) as error:
            log.warning("chore_failed", chore=self.name, error=str(error))
        except Exception:
            # Nobody would notice that the thread is gone.
            log.exception("chore_failed", chore=self.name)


class Housekeeper:
    """Threads that do their chores until they are stopped."""

    def __init__(self, chores: Sequence[Chore]) -> None:
        self._stopping = threading.Event()
        self._chores = chores
        self._threads = [
            threading.Thread(target=self._repeat, args=(chore,), name=chore.name, daemon=True)
            for chore in chores
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, *, within_seconds: float = STOP_SECONDS) -> None:
        """Return once the rounds that are under way have ended, but in time.

        A round that takes longer (garbage in a large bucket) ends with the process: a chore may be cut off
        anywhere, and the next round, of whichever process, goes on from what it left.
        """
        self._stopping.set()
        for chore in self._chores:
            if chore.interrupt is not None:
                chore.interrupt()
        deadline = time.monotonic() + within_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if late := [thread.name for thread in self._threads if thread.is_alive()]:
            log.warning("chores_left_behind", chores=late)

    def _repeat(self, chore: Chore) -> None:
        pause = SystemRandom().uniform(0, chore.every_seconds)
        while not self._stopping.wait(pause):
            chore.try_once()
            pause = chore.every_seconds


def mending_chores(engine: Engine, settings: Settings) -> list[Chore]:
    """Relay and reconciler: quick, and useful wherever a process of the service runs."""
    doorbell = open_doorbell(settings.broker_url)
    reconciler = Reconciler(engine, lease_seconds=settings.lease_seconds)
    # Without a doorbell the outbox is only emptied, and there is no hurry.
    relay_seconds = _RELAY_EVERY_SECONDS if doorbell is not None else settings.reconcile_seconds
    return [
        Chore(name="relay", every_seconds=relay_seconds, run=lambda: relay_outbox(engine, doorbell)),
        Chore(name="reconcile", every_seconds=settings.reconcile_seconds, run=reconciler.run_once),
    ]


def all_chores(engine: Engine, store: ObjectStore, settings: Settings) -> list[Chore]:
    """Those, and what else there is: one process is enough."""
    gc = Chore(
        name="gc", every_seconds=settings.gc_seconds, run=lambda: collect_garbage(engine, store, settings)
    )
    checker = FileChecker(engine, store)
    check = Chore(
        name="check_files",
        every_seconds=settings.poll_seconds,
        run=checker.run_once,
        interrupt=checker.interrupt,
    )
    promoter = Promoter(engine, store)
    promote = Chore(
        name="promote",
        every_seconds=settings.poll_seconds,
        run=promoter.run_once,
        interrupt=promoter.interrupt,
    )
    courier = open_courier(engine, settings)
    deliver = Chore(
        name="webhooks",
        every_seconds=_WEBHOOKS_EVERY_SECONDS,
        run=courier.run_once,
        interrupt=courier.interrupt,
    )
    publish = [_publishing(engine, store, settings, number) for number in range(_PUBLISHED_AT_ONCE)]
    return [*mending_chores(engine, settings), gc, check, promote, *publish, deliver]


def _publishing(engine: Engine, store: ObjectStore, settings: Settings, number: int) -> Chore:
    publisher = Publisher(
        engine,
        store,
        seals=lambda: load_seals(settings),
        outlets=Outlets.of(settings),
        # One project alone does not take all of them.
        only_idle_projects=number > 0,
    )
    return Chore(
        name=f"publish-{number}",
        every_seconds=settings.poll_seconds,
        run=publisher.run_once,
        interrupt=publisher.interrupt,
    )


def keep_house(settings: Settings) -> None:
    """Do every chore until SIGTERM or Ctrl-C: the process `fusion housekeeper`."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    engine = create_engine(settings.database_url)
    housekeeper = Housekeeper(all_chores(engine, open_store(settings.storage_url), settings))
    housekeeper.start()
    log.info("housekeeper_started")
    # No event: a handler that sets one can deadlock with the wait it interrupted.
    while not asked:
        time.sleep(_LOOK_SECONDS)
    housekeeper.stop()
    engine.dispose()
    log.info("housekeeper_stopped")
