"""Celery is a doorbell: its settings, its one task, and a worker that needs no message at all."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from celery import Celery

from app.queue import WAKE_TASK, broker_settings, open_doorbell
from tests.workers.conftest import Workshop
from workers import celery_worker
from workers.celery_worker import CeleryWorker

WAIT_SECONDS = 120.0
# The real application, with stages played by `children.py`.
BOOT = """
import sys
from workers import celery_worker, worker
worker.default_command = lambda: {command!r}
celery_worker.POLL_SECONDS = 600
from celery.__main__ import main
sys.argv = ["celery", "-A", "workers.celery_app", "worker", "-Q", "cpu,gpu", *{options!r}]
main()
"""


@contextmanager
def celery(
    workshop: Workshop, broker_url: str, log: Path, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    settings = workshop.worker.settings
    environment = {
        "FUSION_DATA_DIR": str(settings.data_dir),
        "FUSION_DATABASE_URL": settings.database_url,
        "FUSION_BROKER_URL": broker_url,
        "FUSION_ALLOWED_ROOTS": str(workshop.root),
    }
    code = BOOT.format(command=list(workshop.worker.stage_command), options=options)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=output, stderr=output, env={**os.environ, **environment}
        )
    try:
        yield process
        process.terminate()
        assert process.wait(timeout=WAIT_SECONDS) == 0, log.read_text()[-3000:]
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], object], log: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_ring_wakes_the_worker(workshop: Workshop, redis_server: str, tmp_path: Path, pool: str) -> None:
    workshop = workshop.playing("work")
    log = tmp_path / "log"
    with celery(workshop, redis_server, log, "--pool", pool):
        # It has looked once, found nothing, and will not look again by itself in the time of a test.
        wait_for(workshop.workers, log)
        job_id = workshop.submit()
        doorbell = open_doorbell(redis_server)
        assert doorbell is not None
        doorbell.ring("gpu")
        wait_for(lambda: workshop.job(job_id).status == "succeeded", log)


def test_foreign_messages_are_refused_loudly_and_harm_nobody(
    workshop: Workshop, redis_server: str, tmp_path: Path
) -> None:
    workshop = workshop.playing("work")
    log = tmp_path / "log"
    stranger = Celery("stranger", broker=redis_server, set_as_current=False)
    stranger.conf.update(broker_settings())
    stranger.conf.update({"accept_content": ["json", "pickle"], "result_accept_content": ["json"]})
    with celery(workshop, redis_server, log):
        wait_for(workshop.workers, log)

        stranger.send_task("fusion.of_another_release", queue="gpu", args=[1])
        stranger.send_task(WAKE_TASK, queue="gpu", serializer="pickle")
        wait_for(lambda: "fusion.of_another_release" in log.read_text(), log)
        wait_for(lambda: "pickle" in log.read_text(), log)
        job_id = workshop.submit()
        doorbell = open_doorbell(redis_server)
        assert doorbell is not None
        doorbell.ring("gpu")

        wait_for(lambda: workshop.job(job_id).status == "succeeded", log)


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_bytes_that_are_no_message_are_dropped(
    workshop: Workshop, redis_server: str, tmp_path: Path, pool: str
) -> None:
    workshop = workshop.playing("work")
    log = tmp_path / "log"
    garbage = [b"\xff\xfe", b"no JSON", b"[1]", b"7", b'{"properties": {}}', b'{"properties": []}']
    garbage += [b'{"body": "x", "properties": {"body_encoding": "rot13", "delivery_tag": "a"}}']
    with celery(workshop, redis_server, log, "--pool", pool):
        wait_for(workshop.workers, log)

        with redis.Redis.from_url(redis_server) as client:
            client.lpush("fusion:gpu", *garbage)
        wait_for(lambda: log.read_text().count("message_dropped") == len(garbage), log)
        job_id = workshop.submit()
        doorbell = open_doorbell(redis_server)
        assert doorbell is not None
        doorbell.ring("gpu")

        wait_for(lambda: workshop.job(job_id).status == "succeeded", log)


def test_a_stop_gives_the_running_step_back(workshop: Workshop, redis_server: str, tmp_path: Path) -> None:
    workshop = workshop.playing("resumable")
    job_id = workshop.submit()
    log = tmp_path / "log"

    with celery(workshop, redis_server, log):
        wait_for(lambda: workshop.artifacts(job_id, "checkpoint"), log)

    step = workshop.steps(job_id)["prepare"]
    assert (step.status, step.status_reason) == ("queued", "drain")


def test_a_worker_looks_without_being_rung(
    workshop: Workshop, redis_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = workshop.playing("work")
    worker = CeleryWorker(workshop.worker.settings)
    monkeypatch.setattr(celery_worker, "create_worker", lambda *_, **__: workshop.worker)
    job_id = workshop.submit()

    worker.start(("cpu", "gpu"))
    wait_for(lambda: workshop.job(job_id).status == "succeeded", Path("/dev/null"))
    worker.stop()


def test_a_worker_of_no_queue_is_refused(workshop: Workshop) -> None:
    with pytest.raises(ValueError, match="-Q cpu,gpu"):
        CeleryWorker(workshop.worker.settings).start(())


def test_a_worker_that_cannot_begin_ends(workshop: Workshop, redis_server: str, tmp_path: Path) -> None:
    """It would be connected, and deaf."""
    environment = {
        "FUSION_DATA_DIR": str(tmp_path),
        "FUSION_BROKER_URL": redis_server,
        "FUSION_STORAGE_URL": "nowhere://at/all",
    }
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "workers.celery_app", "worker", "-Q", "cpu"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_SECONDS,
    )

    assert done.returncode != 0
    assert "worker_not_started" in done.stderr


def test_without_a_broker_the_way_out_is_named() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "FUSION_BROKER_URL"}
    done = subprocess.run(
        [sys.executable, "-c", "import workers.celery_app"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    assert "FUSION_BROKER_URL is not set" in done.stderr
