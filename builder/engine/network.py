"""A network of a build's own, for as long as something of the build needs it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from docker import APIClient
from docker.errors import NotFound

from builder.engine.faults import translated

# On every container and network of a build, so that whoever cleans up after a dead worker finds them.
BUILD_LABEL = "goldsmith.build"


@contextmanager
def own_network(api: APIClient, build_id: str, *, internal: bool) -> Iterator[str]:
    """A bridge's id. `internal` routes nothing out of it; the host can be reached either way. Removed in every case."""
    with translated():
        network: str = api.create_network(
            f"goldsmith-{build_id}", driver="bridge", internal=internal, labels={BUILD_LABEL: build_id}
        )["Id"]
    try:
        yield network
    finally:
        with translated(), suppress(NotFound):
            api.remove_network(network)


def is_here(api: APIClient, network: str) -> bool:
    """Whether this process is on the network's own host: its gateway is an address of ours.

    A rootless engine keeps its networks to itself. What answers here at an address of theirs is somebody else.
    """
    with translated():
        (found,) = api.networks(ids=[network])
    gateways = [one["Gateway"].partition("/")[0] for one in found["IPAM"]["Config"] if one.get("Gateway")]
    return any(map(_is_ours, gateways))


def _is_ours(address: str) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
        return True
