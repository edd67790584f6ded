"""A TCP proxy in front of PostgreSQL that breaks a connection at the one moment that matters: in a COMMIT."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import make_url

When = Literal["before", "after"]
_CHUNK_BYTES = 1 << 16


@dataclass(kw_only=True)
class CommitCutter:
    """While armed, a COMMIT breaks its connection: before the server saw it, or after it was done."""

    url: str
    num_cuts: int = 0
    _armed: When | None = None
    _num_spared: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arm(self, when: When, *, spare: int = 0) -> None:
        """Cut the next COMMIT but `spare`."""
        with self._lock:
            self._armed, self._num_spared = when, spare

    def take(self, data: bytes) -> When | None:
        """How to treat what a client sent."""
        with self._lock:
            if self._armed is None or b"COMMIT" not in data:
                return None
            if self._num_spared:
                self._num_spared -= 1
                return None
            when, self._armed = self._armed, None
            self.num_cuts += 1
            return when


@contextmanager
def cutting_commits(database_url: str) -> Iterator[CommitCutter]:
    """The proxy for a database; `url` of what is yielded goes through it."""
    target = make_url(database_url)
    assert target.host is not None
    assert target.port is not None
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        url = target.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        cutter = CommitCutter(url=url)
        accepting = threading.Thread(
            target=_accept, args=(server, (target.host, target.port), cutter), daemon=True
        )
        accepting.start()
        yield cutter
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
    accepting.join(timeout=5)


def _accept(server: socket.socket, target: tuple[str, int], cutter: CommitCutter) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        upstream = socket.create_connection(target)
        silenced = threading.Event()
        for function, arguments in (
            (_to_server, (client, upstream, cutter, silenced)),
            (_to_client, (client, upstream, silenced)),
        ):
            threading.Thread(target=function, args=arguments, daemon=True).start()


def _to_server(
    client: socket.socket, upstream: socket.socket, cutter: CommitCutter, silenced: threading.Event
) -> None:
    with suppress(OSError):
        while data := client.recv(_CHUNK_BYTES):
            when = cutter.take(data)
            if when == "before":
                break
            if when == "after":
                silenced.set()
            upstream.sendall(data)
    _close(client, upstream)


def _to_client(client: socket.socket, upstream: socket.socket, silenced: threading.Event) -> None:
    with suppress(OSError):
        while data := upstream.recv(_CHUNK_BYTES):
            if silenced.is_set():
                # The server has answered, so the commit is done; its client shall never know.
                break
            client.sendall(data)
    _close(client, upstream)


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
