"""The Celery application: `celery -A workers.celery_app worker -Q gpu`.

Celery is a doorbell. A message is acknowledged before anything is done for it, carries nothing, and may be
lost or repeated; the database says what there is to do. One thread works, one step at a time.
"""

from typing import Any, get_args

from celery import Celery
from celery.signals import celeryd_after_setup, setup_logging, worker_shutdown, worker_shutting_down

from app.jobs.claims import Resource
from app.logs import configure_logs, get_logger
from app.queue import QUEUES, broker_settings
from app.settings import load_settings
from fusion.errors import UserError
from workers import redis_transport
from workers.celery_worker import CeleryWorker

settings = load_settings()
if settings.broker_url is None:
    raise UserError(
        "Celery needs a broker and FUSION_BROKER_URL is not set",
        code="broker_missing",
        hint="set FUSION_BROKER_URL=redis://..., or run `fusion worker`, which polls",
    )

redis_transport.install()
app = Celery("fusion", broker=settings.broker_url, include=["workers.tasks"])
app.conf.update(
    {
        **broker_settings(),
        "task_acks_late": False,
        "task_reject_on_worker_lost": False,
        "task_create_missing_queues": True,
        "task_default_queue": QUEUES[0],
        # Threads and not processes: the step has a process of its own, and the thread that started it stays.
        "worker_pool": "threads",
        "worker_concurrency": 1,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "result_backend": None,
    }
)
celery_worker = CeleryWorker(settings)
log = get_logger(__name__)


@setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    configure_logs(settings.log_level)


@celeryd_after_setup.connect
def _start(instance: Any, **_: Any) -> None:
    """Before there is a connection to the broker, for there may be none for long."""
    consumed = instance.app.amqp.queues.consume_from
    try:
        celery_worker.start(tuple(queue for queue in get_args(Resource) if queue in consumed))
    except Exception as error:
        # Celery would write it down and go on, deaf. Whoever supervises this process starts it again.
        log.exception("worker_not_started")
        raise SystemExit(1) from error


@worker_shutting_down.connect
def _drain(**_: Any) -> None:
    celery_worker.drain()


@worker_shutdown.connect
def _stop(**_: Any) -> None:
    celery_worker.stop()
