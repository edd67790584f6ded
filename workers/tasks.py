"""The one task: look at the database now."""

from app.queue import WAKE_TASK
from workers.celery_app import app, celery_worker


@app.task(name=WAKE_TASK, ignore_result=True, acks_late=False, max_retries=0)
def wake(*_: object, **__: object) -> None:
    """Run steps until nothing fits. Arguments are ignored: a forged message can do no more than this."""
    celery_worker.look()
