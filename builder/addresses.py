"""Addresses on the internet: what a name stands for now, and whether that is a public host's."""

from __future__ import annotations

import ipaddress
import socket

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def addresses_of(host: str, port: int) -> list[str]:
    """Every address of a name, the one to connect to first. Raises OSError while it has none."""
    try:
        found = socket.getaddrinfo(host, port, proto=socket.IPPROTO_TCP)
    except UnicodeError as error:
        raise OSError(f"{host[:100]!r} is no name of a host") from error
    return [str(one[4][0]).partition("%")[0] for one in found]


def is_public(text: str) -> bool:
    """Whether an address is anybody's on the internet, the address that is embedded in another one included."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if any(one is not None and not is_public(str(one)) for one in inner):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved
