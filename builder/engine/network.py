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


def is_here(network: str) -> bool:
    """Whether this process is on the network's own host: the kernel has the bridge that the engine names by its id.

    A rootless engine keeps its networks to itself. What answers here at an address of theirs is somebody else.
    """
    try:
        socket.if_nametoindex(f"br-{network[:12]}")
    except OSError:
        return False
    return True
