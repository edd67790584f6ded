"""What a hub answers becomes an error that names the way out; a small hub on this machine answers."""

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest

from fusion.errors import FusionError
from fusion.llms.hub import download_checkpoint

REVISION = "0123456789abcdef0123456789abcdef01234567"
# Status and headers as the hub sends them.
ANSWERS = {
    "org/absent": (404, {"X-Error-Code": "RepoNotFound"}),
    "org/rewritten": (404, {"X-Error-Code": "RevisionNotFound"}),
    "org/gated": (403, {"X-Error-Code": "GatedRepo"}),
    "org/broken": (500, {}),
    "org/crowded": (429, {"Retry-After": "37"}),
    "org/closed": (503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
}


class Hub(BaseHTTPRequestHandler):
    """Refuses every request as its repository demands."""

    def do_GET(self) -> None:
        status, headers = next(answer for name, answer in ANSWERS.items() if name in self.path)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing: the library already logs."""


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The library talks to the hub on this machine and keeps nothing."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        impatient = SimpleNamespace(**{**vars(time), "sleep": lambda _: None})
        monkeypatch.setattr("huggingface_hub.utils._http.time", impatient)
        yield
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("repository", "category", "code", "hint"),
    [
        ("org/absent", "user", "model_not_found", "check the name and the commit"),
        ("org/rewritten", "user", "model_not_found", "check the name and the commit"),
        ("org/gated", "user", "model_gated", "accept the model's conditions"),
        ("org/broken", "infrastructure", "hub_unreachable", "check the worker's network"),
    ],
)
def test_a_refusal_names_the_way_out(repository: str, category: str, code: str, hint: str) -> None:
    with pytest.raises(FusionError) as caught:
        download_checkpoint(repository, revision=REVISION)

    assert (caught.value.category, caught.value.code) == (category, code)
    assert repository in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(("repository", "seconds"), [("org/crowded", 37.0), ("org/closed", None)])
def test_a_hub_that_asks_for_time_is_heard(repository: str, seconds: float | None) -> None:
    with pytest.raises(FusionError) as caught:
        download_checkpoint(repository, revision=REVISION)

    error = caught.value.to_dict()
    assert error["code"] == "hub_unreachable"
    assert error.get("retry_after_seconds") == seconds
