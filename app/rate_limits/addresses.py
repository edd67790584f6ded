"""Whom requests without a key are counted for. Pure."""

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

_IPV6_PREFIX_BITS: Final = 64
"""What a network hands to one host at least: it may ask from 2**64 addresses."""


def caller_of(host: str) -> str:
    """An IPv4 address, or the network of an IPv6 address; what is neither (a socket's name) as it is."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((int(address), _IPV6_PREFIX_BITS), strict=False))
