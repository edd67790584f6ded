"""A server on this machine that answers everything alike, and remembers what it was asked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass(kw_only=True)
class BluntServer:
    """`asked`: the headers of every request, `paths` what it was about. `choose`: another status and body for
    some of them, by method and path."""

    status: int
    body: bytes = b""
    choose: Callable[[str, str], tuple[int, bytes] | None] = lambda _method, _path: None
    content_type: str = "application/json"
    url: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


@contextmanager
def blunt_server(blunt: BluntServer) -> Iterator[BluntServer]:
    """Serve it on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            blunt.asked.append({name.lower(): value for name, value in self.headers.items()})
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            blunt.paths.append(f"{self.command} {self.path}")
            status, body = blunt.choose(self.command, self.path) or (blunt.status, blunt.body)
            self.send_response(status)
            self.send_header("ETag", '"e"')
            self.send_header("Content-Type", blunt.content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        blunt.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield blunt
        server.shutdown()
        thread.join()
