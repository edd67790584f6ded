"""Receivers of webhooks: real servers on loopback that remember what reached them."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """One request. `headers` by name in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass(kw_only=True)
class Receiver:
    """Answers as it is told to."""

    answer: Callable[[Received], Answer | None] = lambda _: (204, {}, b"")
    """None: hang until the end."""
    received: list[Received] = field(default_factory=list)
    num_connections: int = 0
    port: int = 0
    scheme: str = "http"
    host: str = "127.0.0.1"
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}/hook"

    def answers(self, status: int, **headers: str) -> None:
        """From now on every request is answered so."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = lambda _: (status, named, b"")


@contextmanager
def receiving(
    receiver: Receiver | None = None, *, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """A receiver on a free port of a loopback address."""
    found = receiver or Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Received(path=self.path, headers=headers, body=body)
            found.received.append(request)
            answer = found.answer(request)
            if answer is None:
                found.ended.wait(60)
                return
            status, more, content = answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            return None

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def process_request(self, request: Any, client_address: Any) -> None:
            found.num_connections += 1
            super().process_request(request, client_address)

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Callers that hang up are none of ours."""

    with Server((address, 0), Handler) as server:
        found.port = server.server_address[1]
        if tls is not None:
            found.scheme = "https"
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield found
        finally:
            found.ended.set()
            server.shutdown()
            thread.join()
