"""A worker without a broker: it asks the database for work, again and again."""

from sqlalchemy.exc import DBAPIError

from app.logs import get_logger
from workers.step_runner import run_one
from workers.worker import Worker, create_housekeeper

log = get_logger(__name__)


def poll(worker: Worker) -> None:
    """Run steps as they become ready, until the worker is told to drain."""
    log.info("worker_started", worker_id=worker.id, resources=list(worker.resources))
    housekeeper = create_housekeeper(worker)
    housekeeper.start()
    try:
        while not worker.drain.is_set():
            if not _run_one_if_possible(worker):
                worker.drain.wait(worker.settings.poll_seconds)
    finally:
        housekeeper.stop()
    log.info("worker_stopped", worker_id=worker.id)


def _run_one_if_possible(worker: Worker) -> bool:
    try:
        return run_one(worker)
    except DBAPIError as error:
        log.warning("database_unreachable", error=str(error))
        return False
