"""A server that is asked to end lets its followers go, and ends."""

import signal
from pathlib import Path

import httpx2

from app.db.session import create_engine
from tests.app.jobs import builders as given
from tests.support.api_process import running_api


def test_sigterm_ends_streams_and_waits_within_seconds(tmp_path: Path) -> None:
    with running_api(tmp_path) as api:
        engine = create_engine(api.settings.database_url)
        project_id = httpx2.get(f"{api.url}/v1/me", headers=api.headers).json()["project"]["id"]
        job = given.submit(engine, project_id)
        url = f"{api.url}/v1/jobs/{job.id}/events/stream"
        with httpx2.stream("GET", url, headers=api.headers, timeout=20) as answer:
            lines = answer.iter_lines()
            assert next(line for line in lines if line.startswith("id:")) == "id: 1"
            api.process.send_signal(signal.SIGTERM)
            rest = list(lines)
        api.process.wait(timeout=20)
        engine.dispose()

    assert "event: job.end" not in rest
    assert "Traceback" not in api.log.read_text()
