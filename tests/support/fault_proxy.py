"""A TCP proxy that delays, swallows or breaks what passes through it: also in the middle of a COMMIT."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from sqlalchemy import make_url

When = Literal["before", "after"]
_CHUNK_BYTES = 1 << 16
_LOOK_SECONDS = 0.05


class FaultProxy:
    """Passes bytes on to one server, as long as nothing else is asked of it. Used from any thread."""

    def __init__(self, host: str, port: int) -> None:
        self.delay_seconds = 0.0
        """How long every piece waits, in each direction."""
        self.num_commit_cuts = 0
        self._target = (host, port)
        self._passing = threading.Event()
        self._passing.set()
        self._lock = threading.Lock()
        self._armed: When | None = None
        self._num_spared = 0
        self._sockets: set[socket.socket] = set()
        self._server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.getsockname()[1])

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._passing.set()
        self.cut()

    def swallow(self) -> None:
        """Become a black hole: connections stay open, and nothing arrives until `let_pass`."""
        self._passing.clear()

    def let_pass(self) -> None:
        self.delay_seconds = 0.0
        self._passing.set()

    def cut(self) -> None:
        """Break every connection that is open now."""
        with self._lock:
            sockets = list(self._sockets)
        _close(*sockets)

    def cut_next_commit(self, when: When, *, spare: int = 0) -> None:
        """Break the connection of a COMMIT, the next but `spare`: before the server saw it, or afterwards."""
        with self._lock:
            self._armed, self._num_spared = when, spare

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            try:
                upstream = socket.create_connection(self._target, timeout=10)
            except OSError:
                _close(client)
                continue
            upstream.settimeout(None)
            for one in (client, upstream):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets |= {client, upstream}
            silenced = threading.Event()
            for function in (self._to_server, self._to_client):
                threading.Thread(target=function, args=(client, upstream, silenced), daemon=True).start()

    def _to_server(self, client: socket.socket, upstream: socket.socket, silenced: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(_CHUNK_BYTES):
                self._hold()
                when = self._take(data)
                if when == "before":
                    break
                if when == "after":
                    silenced.set()
                upstream.sendall(data)
        self._forget(client, upstream)

    def _to_client(self, client: socket.socket, upstream: socket.socket, silenced: threading.Event) -> None:
        with suppress(OSError):
            while data := upstream.recv(_CHUNK_BYTES):
                if silenced.is_set():
                    # The server has answered, so the commit is done; its client shall never know.
                    break
                self._hold()
                client.sendall(data)
        self._forget(client, upstream)

    def _hold(self) -> None:
        if self.delay_seconds:
            time.sleep(self.delay_seconds)
        while not self._passing.wait(_LOOK_SECONDS):
            pass

    def _take(self, data: bytes) -> When | None:
        """How to treat what a client sent."""
        with self._lock:
            if self._armed is None or b"COMMIT" not in data:
                return None
            if self._num_spared:
                self._num_spared -= 1
                return None
            when, self._armed = self._armed, None
            self.num_commit_cuts += 1
            return when

    def _forget(self, *sockets: socket.socket) -> None:
        _close(*sockets)
        with self._lock:
            self._sockets -= set(sockets)


@contextmanager
def proxied_database(database_url: str) -> Iterator[tuple[str, FaultProxy]]:
    """A proxy for a database, and the URL that goes through it."""
    target = make_url(database_url)
    assert target.host is not None
    assert target.port is not None
    proxy = FaultProxy(target.host, target.port)
    try:
        url = target.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        yield url, proxy
    finally:
        proxy.close()


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            one.close()
