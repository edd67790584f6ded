"""A TCP proxy that cuts connections in the middle of an answer, as bad networks do."""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Cuts:
    """The plan, and what came of it: an answer is cut after `after` bytes (between them), `limit` times."""

    after: tuple[int, int]
    limit: int
    silently: bool = False
    """The connection stays open, and nothing comes any more."""
    num_cut: int = 0
    num_connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_length(self) -> int | None:
        """After how many bytes a new connection is cut; None where it may live."""
        with self.lock:
            self.num_connections += 1
            if self.num_cut >= self.limit:
                return None
            return random.Random(self.num_connections).randint(*self.after)

    def was_cut(self) -> None:
        with self.lock:
            self.num_cut += 1


@contextmanager
def cutting_proxy(port: int, cuts: Cuts) -> Iterator[str]:
    """The address of a proxy to a server on `port` of this machine."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as listener:
        thread = threading.Thread(target=_accept, args=(listener, port, cuts), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        # Wakes the thread that waits for a connection; close alone does not.
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=10)


def _accept(listener: socket.socket, port: int, cuts: Cuts) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(client, port, cuts), daemon=True).start()


def _serve(client: socket.socket, port: int, cuts: Cuts) -> None:
    left = cuts.next_length()
    with client, suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
        upwards = threading.Thread(target=_copy, args=(client, server), daemon=True)
        upwards.start()
        while data := server.recv(1 << 16):
            if left is not None and len(data) >= left:
                client.sendall(data[:left])
                cuts.was_cut()
                if cuts.silently:
                    threading.Event().wait()
                # Both ways, or the other thread keeps the connection open.
                client.shutdown(socket.SHUT_RDWR)
                server.shutdown(socket.SHUT_RDWR)
                return
            client.sendall(data)
            left = None if left is None else left - len(data)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
