"""Runs `fusion` in this process against a service that gives prepared answers."""

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.cli import main

JOB = {
    "id": "job-1",
    "object": "job",
    "name": "tiny",
    "status": "succeeded",
    "progress": {"stage": None, "percent": 100.0, "eta_seconds": None},
    "error": None,
    "created_at": 1_700_000_000,
}
STEP = {
    "id": "step-1",
    "name": "train.fused",
    "stage": "train",
    "status": "succeeded",
    "attempt": 1,
    "progress": {"stage": "train.fused", "percent": 100.0, "done": 4, "total": 4, "unit": "steps"},
}
EVENT = {
    "id": "evt-1",
    "seq": 1,
    "type": "note",
    "message": "train.fused started",
    "created_at": 1_700_000_001,
}
POINT = {"seq": 1, "step_name": "train.fused", "step": 4, "attempt": 1, "values": {"loss": 1.5}}


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(kw_only=True)
class Service:
    """Answers by method and path; remembers the requests."""

    url: str = ""
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    requests: list[tuple[str, Any]] = field(default_factory=list)
    projects: list[str | None] = field(default_factory=list)
    """What the requests said in `OpenAI-Project`."""

    def gives(self, route: str, body: Any, *, status: int = 200) -> None:
        self.answers[route] = (status, body)

    def gives_list(self, route: str, *items: Any) -> None:
        last = items[-1]["id"] if items else None
        self.gives(route, {"object": "list", "data": items, "last_id": last, "has_more": False})

    def has_job(self, **changes: Any) -> None:
        """A job with a step, an event and a metric point."""
        self.gives("GET /v1/jobs/job-1", {**JOB, **changes})
        self.gives_list("GET /v1/jobs/job-1/steps", STEP)
        self.gives_list("GET /v1/jobs/job-1/events", EVENT)
        self.gives("GET /v1/jobs/job-1/metrics", POINT)
        self.gives_list("GET /v1/models")


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            route = f"{self.command} {urlsplit(self.path).path}"
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found.requests.append((route, body))
            found.projects.append(self.headers.get("OpenAI-Project"))
            missing = (404, {"detail": f"nothing at {route}", "code": "not_found"})
            status, answer = found.answers.get(route, missing)
            if self.headers.get("Authorization") != "Bearer good":
                status, answer = 401, {"detail": "the API key is unknown", "code": "invalid_api_key"}
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_GET = do_POST = do_PATCH = do_DELETE = _answer

        def log_message(self, *args: object) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def fusion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Ran]:
    """Runs a command line; the working folder is empty."""
    monkeypatch.chdir(tmp_path)
    # A test before may have started the service in this process, which sends every log to stderr.
    monkeypatch.setattr(logging.getLogger("httpx2"), "disabled", True)
    for name in ("FUSION_URL", "FUSION_API_KEY", "FUSION_DATA_DIR", "FUSION_PROJECT"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["fusion", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ran(code=int(ended.value.code or 0), out=captured.out, err=captured.err)

    return run


@pytest.fixture
def talking(
    fusion: Callable[..., Ran], service: Service, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    """`fusion` with the service's address and a good key in the environment."""
    monkeypatch.setenv("FUSION_URL", service.url)
    monkeypatch.setenv("FUSION_API_KEY", "good")
    return fusion
