"""A small HTTP server that hands out one artifact, and misbehaves when it is told to."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

ARTIFACT_ID = "art-1"


@dataclass(kw_only=True)
class Shelf:
    """Files on offer, and what goes wrong: how many answers are cut after `cut_after` bytes, or refused."""

    files: dict[str, bytes]
    num_cuts: int = 0
    cut_after: int = 1000
    num_refusals: int = 0
    lie_about: dict[str, str] = field(default_factory=dict)
    """Digests to promise instead of the true ones, by path."""
    linked_from: str = ""
    """Address of a store to which links lead; no links without one."""
    num_dead_links: int = 0
    """How many answers of the store say that a link has expired."""
    num_links: int = 0
    fetched_from_store: list[str] = field(default_factory=list)
    ranges_asked: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def sha256(self, path: str) -> str:
        return self.lie_about.get(path) or hashlib.sha256(self.files[path]).hexdigest()

    def description(self) -> bytes:
        files = [
            {"path": path, "size": len(data), "sha256": self.sha256(path)}
            for path, data in self.files.items()
        ]
        return json.dumps({"id": ARTIFACT_ID, "kind": "model", "role": "publish", "files": files}).encode()

    def take(self, what: str) -> bool:
        """Use up one planned misbehaviour, if any is left."""
        with self.lock:
            left: int = getattr(self, what)
            setattr(self, what, max(0, left - 1))
            return left > 0


@contextmanager
def serving(shelf: Shelf) -> Iterator[str]:
    """URL of a server for `shelf`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if url.path.startswith("/store/"):
                self._send_from_store(url.path.removeprefix("/store/"))
            elif url.path.endswith("/content"):
                self._send_file(parse_qs(url.query)["path"][0])
            else:
                self._send(200, shelf.description(), {})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not shelf.linked_from:
                self._send(404, b"", {})
                return
            with shelf.lock:
                shelf.num_links += 1
            link = {
                "served_by": "storage",
                "url": f"{shelf.linked_from}/store/{asked['path']}?signature={shelf.num_links}",
                "expires_at": time.time() + asked["expires_in"],
            }
            self._send(200, json.dumps(link).encode(), {})

        def _send_from_store(self, path: str) -> None:
            assert self.headers["Authorization"] is None, "the store learns the key"
            if shelf.take("num_dead_links"):
                self._send(403, b"<Error>Request has expired</Error>", {})
                return
            with shelf.lock:
                shelf.fetched_from_store.append(path)
            start, end = map(int, re.findall(r"\d+", self.headers["Range"]))
            data = shelf.files[path]
            self._send(206, data[start : end + 1], {"Content-Range": f"bytes {start}-{end}/{len(data)}"})

        def _send_file(self, path: str) -> None:
            if shelf.take("num_refusals"):
                self._send(503, b"", {"Retry-After": "0"})
                return
            asked = self.headers["Range"]
            with shelf.lock:
                shelf.ranges_asked.append((path, asked))
            start, end = map(int, re.findall(r"\d+", asked))
            data = shelf.files[path]
            if self.headers["If-Range"] != f'"{shelf.sha256(path)}"':
                self._send(200, data, {})
                return
            self._send(206, data[start : end + 1], {"Content-Range": f"bytes {start}-{end}/{len(data)}"})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if status == 206 and shelf.take("num_cuts"):
                self.wfile.write(body[: shelf.cut_after])
                self.wfile.flush()
                self.close_connection = True
                return
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
