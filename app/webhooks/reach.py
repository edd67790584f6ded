"""Where webhooks may go: public addresses over https, and what an operator allows beyond.

A receiver is an address of a user's choice which this service connects to from inside of its network, so
everything that is not public is refused. What an URL says is checked when it is given (`check_url`); what its
name leads to is checked with every connection (`may_reach`), for names change their minds.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from app.settings import Settings

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URL_LENGTH: Final = 2048
_URL: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
"""The characters that RFC 3986 knows: no space, no backslash, nothing that two parsers read differently."""
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(
    rf"(?=.{{1,253}}$)(?:{_LABEL}\.)*[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?", re.IGNORECASE
)
"""A name in ASCII. Its last label begins with a letter: no odd spelling of an IPv4 address fits."""
_NOT_PUBLIC_NAMES: Final = (
    "localhost",
    "localdomain",
    "local",
    "internal",
    "home.arpa",
    "test",
    "invalid",
    "onion",
)
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}

_NOT_PUBLIC: Final[Sequence[ipaddress.IPv4Network]] = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
)
"""IANA's special purposes, and multicast. Listed, because what `is_global` says differs between Pythons."""
_PUBLIC_V6: Final = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6: Final[Sequence[ipaddress.IPv6Network]] = tuple(
    ipaddress.IPv6Network(text)
    # Teredo and other protocols of the IETF, documentation, 6to4, documentation. What carries an IPv4 address
    # otherwise (mapped, compatible, NAT64) lies outside of 2000::/3.
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """Where webhooks may go."""

    allows_http: bool = False
    ports: frozenset[int] = frozenset({443})
    """Empty for any."""
    networks: tuple[Network, ...] = ()
    """Private networks that an operator opened."""

    @classmethod
    def of(cls, settings: Settings) -> "Reach":
        return cls(
            allows_http=settings.webhook_allow_http,
            ports=frozenset(settings.webhook_ports),
            networks=settings.webhook_networks,
        )

    def may_reach(self, address: Address) -> bool:
        """Whether a connection may be made to an address."""
        if any(address in network for network in self.networks if network.version == address.version):
            return True
        if isinstance(address, ipaddress.IPv4Address):
            return not any(address in network for network in _NOT_PUBLIC)
        if address.scope_id is not None or address not in _PUBLIC_V6:
            return False
        return not any(address in network for network in _NOT_PUBLIC_V6)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """An URL in the parts that a request needs."""

    scheme: str
    host: str
    """Name in lower case, or address without brackets."""
    port: int
    path: str
    """With the query."""

    @property
    def authority(self) -> str:
        """What `Host` says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


class UrlRefused(ValueError):
    """Nothing is sent there. The message says why, and what would do."""


def read_url(url: str, reach: Reach) -> Target:
    """The parts of an URL to which webhooks may go, as far as the URL tells.

    Raises:
        UrlRefused: it is no such URL.
    """
    if len(url) > MAX_URL_LENGTH or not _URL.fullmatch(url):
        raise UrlRefused(
            f"expected an URL of at most {MAX_URL_LENGTH} plain ASCII characters (names as punycode xn--...)"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UrlRefused(f"not an URL: {error}") from error
    if parts.scheme not in ("https", "http") or (parts.scheme == "http" and not reach.allows_http):
        raise UrlRefused(f"expected https://, got {parts.scheme or 'no scheme'}")
    if "@" in parts.netloc:
        raise UrlRefused("no user and no password in the URL: the signature says who sends")
    if "#" in url:
        raise UrlRefused("no fragment (#...): it would not be sent")
    port = _DEFAULT_PORTS[parts.scheme] if port is None else port
    if reach.ports and port not in reach.ports:
        raise UrlRefused(f"port {port} is not open for webhooks; {_listed(reach.ports)} is")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(
        scheme=parts.scheme, host=_host(parts.hostname or "", parts.netloc, reach), port=port, path=path
    )


def _host(host: str, netloc: str, reach: Reach) -> str:
    if "[" in netloc or re.fullmatch(r"\d+(\.\d+){3}", host):
        try:
            address = ipaddress.ip_address(host)
        except ValueError as error:
            raise UrlRefused(f"{host!r} is no address") from error
        if not reach.may_reach(address):
            raise UrlRefused(f"{address} is not a public address")
        return str(address)
    if not _NAME.fullmatch(host):
        raise UrlRefused(f"{host!r} is no name of a host; expected e.g. hooks.example.com")
    is_public = "." in host and not any(f".{host}".endswith(f".{name}") for name in _NOT_PUBLIC_NAMES)
    if not is_public and not reach.networks:
        raise UrlRefused(f"{host} is not a public name")
    return host


def _listed(ports: frozenset[int]) -> str:
    return " or ".join(str(port) for port in sorted(ports))
