"""One POST to a receiver: to an address that was checked, without redirects, within a time.

The name is resolved once, every address of it is checked, and the connection is made to what was checked; the
name goes into SNI, the certificate's check and `Host`. Proxies of the environment are not used: they would
resolve the name again.
"""

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpcore2

from app.webhooks.reach import Address, Reach, Target

SECONDS: Final = 15.0
"""For everything after the name is resolved: connection, TLS, sending and the answer."""
_CONNECT_SECONDS: Final = 5.0
MAX_RESPONSE_BYTES: Final = 64 << 10
Resolver = Callable[[str, int], Sequence[Address]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What a receiver answered. Its body is nobody's business."""

    status: int
    retry_after: str | None

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class Undelivered(Exception):
    """There was no answer. `code` is for programs; neither it nor the message names an address."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def resolve(host: str, port: int) -> Sequence[Address]:
    """Every address of a name, as the system resolves it."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    # A scope (fe80::1%eth0) is part of the text and makes the address one that is not public.
    return [ipaddress.ip_address(info[4][0]) for info in found]


@dataclass(frozen=True, kw_only=True)
class Wire:
    """Sends, as far as `reach` allows."""

    reach: Reach
    ssl_context: ssl.SSLContext
    resolver: Resolver = resolve
    seconds: float = SECONDS

    def post(self, target: Target, *, headers: Mapping[str, str], body: bytes) -> Reply:
        """Send once.

        Raises:
            Undelivered: no answer came, or the receiver is not to be reached.
        """
        backend = _CheckedBackend(self)
        url = httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self.seconds)
        try:
            with (
                httpcore2.ConnectionPool(ssl_context=self.ssl_context, network_backend=backend) as pool,
                pool.stream(
                    "POST",
                    url,
                    headers=[("Host", target.authority), *headers.items()],
                    content=body,
                    extensions={"timeout": timeouts},
                ) as response,
            ):
                _read_some(response)
                return _reply(response)
        except (httpcore2.TimeoutException, TimeoutError) as error:
            message = f"no answer within {self.seconds:g} s"
            raise Undelivered("timeout", message) from error
        except httpcore2.ConnectError as error:
            raise _no_connection(error) from error
        except (httpcore2.ProtocolError, httpcore2.NetworkError) as error:
            raise Undelivered("no_answer", "the connection ended without a valid HTTP answer") from error


def _read_some(response: httpcore2.Response) -> None:
    """Let a receiver say what it wants to say, up to a limit. The status counts whatever comes after it."""
    num_bytes = 0
    try:
        for piece in response.iter_stream():
            num_bytes += len(piece)
            if num_bytes >= MAX_RESPONSE_BYTES:
                return
    except (httpcore2.TimeoutException, httpcore2.ProtocolError, httpcore2.NetworkError):
        return


def _reply(response: httpcore2.Response) -> Reply:
    found = [value for name, value in response.headers if name.lower() == b"retry-after"]
    return Reply(status=response.status, retry_after=found[0].decode("latin-1") if found else None)


class _CheckedBackend(httpcore2.NetworkBackend):
    """Connects to addresses that were checked, and keeps everything within one deadline."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._backend = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        addresses = self._checked_addresses(host, port)
        deadline = time.monotonic() + self._wire.seconds
        for number, address in enumerate(addresses, start=1):
            try:
                stream = self._backend.connect_tcp(
                    str(address), port, timeout=min(_CONNECT_SECONDS, _left(deadline))
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if number == len(addresses):
                    raise
            else:
                return _TimedStream(stream, deadline)
        raise AssertionError("unreachable: a name without an address does not resolve")

    def _checked_addresses(self, host: str, port: int) -> Sequence[Address]:
        try:
            addresses = list(dict.fromkeys(self._wire.resolver(host, port)))
        except (OSError, UnicodeError) as error:
            raise Undelivered("name_not_resolved", "the name of the host leads nowhere") from error
        if not addresses:
            raise Undelivered("name_not_resolved", "the name of the host leads nowhere")
        # One address that is not public is enough: no name of an honest receiver has one.
        if not all(self._wire.reach.may_reach(address) for address in addresses):
            raise Undelivered("address_refused", "the host has an address that is not public")
        return addresses


class _TimedStream(httpcore2.NetworkStream):
    """A connection that ends at a deadline, however slowly the other side drips."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, timeout=_left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout=_left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, timeout=_left(self._deadline))
        return _TimedStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _no_connection(error: BaseException) -> Undelivered:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return Undelivered("tls_failed", f"TLS failed: {cause.reason or 'unknown reason'}")
        cause = cause.__cause__ or cause.__context__
    return Undelivered("connection_refused", "no connection could be made")
