"""The worker inside a Celery process: made when Celery is ready, drained when it shuts down.

It looks at the database when the doorbell rings, and now and then anyway: a broker that is down, or that
forgot its messages, delays a step by seconds and no more.
"""

import threading

from sqlalchemy.exc import DBAPIError

from app.jobs.claims import Resource
from app.logs import get_logger
from app.operations.housekeeping import Housekeeper
from app.settings import Settings
from workers.step_runner import run_until_idle
from workers.worker import Worker, create_housekeeper, create_worker

POLL_SECONDS = 10.0

log = get_logger(__name__)


class CeleryWorker:
    """One per process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._worker: Worker | None = None
        self._housekeeper: Housekeeper | None = None
        self._one_at_a_time = threading.Lock()
        self._poller = threading.Thread(target=self._poll, name="poller", daemon=True)

    def start(self, resources: tuple[Resource, ...]) -> None:
        """Become a worker for the queues that this process consumes.

        Raises:
            ValueError: it consumes none that this service fills.
        """
        if not resources:
            raise ValueError(
                "consume the queue cpu, gpu or both: celery -A workers.celery_app worker -Q cpu,gpu"
            )
        self._worker = create_worker(self._settings, resources=resources)
        self._housekeeper = create_housekeeper(self._worker)
        self._housekeeper.start()
        self._poller.start()

    def look(self) -> int:
        """Run steps until nothing fits, one at a time however many threads there are."""
        if self._worker is None:
            return 0
        with self._one_at_a_time:
            return run_until_idle(self._worker)

    def drain(self) -> None:
        """Give the running step back and take no other. Called from a signal handler."""
        if self._worker is not None:
            self._worker.drain.set()

    def stop(self) -> None:
        """Return when nothing of the worker runs any more."""
        self.drain()
        if self._worker is not None:
            self._poller.join()
        if self._housekeeper is not None:
            self._housekeeper.stop()

    def _poll(self) -> None:
        assert self._worker is not None
        while not self._worker.drain.is_set():
            try:
                num_steps = self.look()
                if num_steps:
                    log.info("steps_run_by_poller", num_steps=num_steps)
            except DBAPIError as error:
                log.warning("database_unreachable", error=str(error))
            except Exception:
                # This thread is the safety net under the doorbell; it must outlive a mistake.
                log.exception("look_failed")
            self._worker.drain.wait(POLL_SECONDS)
