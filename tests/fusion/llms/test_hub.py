"""What a hub answers becomes an error that names the way out; a small hub on this machine answers."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from fusion.errors import FusionError
from fusion.llms.hub import download_checkpoint

REVISION = "0123456789abcdef0123456789abcdef01234567"
# Status and X-Error-Code as the hub sends them.
ANSWERS = {
    "org/absent": (404, "RepoNotFound"),
    "org/rewritten": (404, "RevisionNotFound"),
    "org/gated": (403, "GatedRepo"),
    "org/broken": (500, None),
}


class Hub(BaseHTTPRequestHandler):
    """Refuses every request as its repository demands."""

    def do_GET(self) -> None:
        status, code = next(answer for name, answer in ANSWERS.items() if name in self.path)
        self.send_response(status)
        if code is not None:
            self.send_header("X-Error-Code", code)
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
