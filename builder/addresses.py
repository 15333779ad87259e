"""Addresses on the internet: what a name stands for now, and whether that is a public host's."""

from __future__ import annotations

import ipaddress
import socket

# What Python may call global, and is no host's on the internet: the relays of 6to4, which lead elsewhere (RFC 7526);
# local NAT64 (RFC 8215); documentation (RFC 9637); site-local addresses (RFC 3879); segments
# of routes (RFC 9602); and what protocols have for themselves (RFC 6890).
_NO_HOSTS = [
    ipaddress.ip_network(one)
    for one in ("192.88.99.0/24", "192.0.0.0/24", "64:ff9b:1::/48", "3fff::/20", "fec0::/10", "5f00::/16")
]
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
    if any(address in network for network in _NO_HOSTS):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved
