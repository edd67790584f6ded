"""What happens regularly without anybody asking: the outbox is relayed, and crashes are mended."""

import threading
import time
from typing import Final

from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from app.jobs.service import Reconciler
from app.logs import get_logger
from app.queue import Doorbell, relay_outbox

_RELAY_EVERY_SECONDS: Final = 0.5

log = get_logger(__name__)


class Housekeeper:
    """A thread that keeps house until it is stopped. Several processes may run one each."""

    def __init__(
        self, engine: Engine, *, doorbell: Doorbell | None, lease_seconds: float, reconcile_seconds: float
    ) -> None:
        self._engine = engine
        self._doorbell = doorbell
        self._reconciler = Reconciler(engine, lease_seconds=lease_seconds)
        self._reconcile_seconds = reconcile_seconds
        self._next_reconcile = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return once the round that is under way has ended."""
        self._stopping.set()
        self._thread.join()

    def run_once(self) -> None:
        """One round: reconcile when it is time to, then relay."""
        try:
            if time.monotonic() >= self._next_reconcile:
                self._next_reconcile = time.monotonic() + self._reconcile_seconds
                self._reconciler.run_once()
            relay_outbox(self._engine, self._doorbell)
        except DBAPIError as error:
            log.warning("database_unreachable", error=str(error))
        except (BrokerError, OSError) as error:
            log.warning("broker_unreachable", error=str(error))
        except Exception:
            # The next round may succeed, and nobody would notice that the thread is gone.
            log.exception("housekeeping_failed")

    def _run(self) -> None:
        # Without a doorbell the outbox is only emptied, and there is no hurry.
        pause = _RELAY_EVERY_SECONDS if self._doorbell is not None else self._reconcile_seconds
        while not self._stopping.wait(pause):
            self.run_once()
