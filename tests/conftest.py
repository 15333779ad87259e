"""What more than one kind of test needs: a Docker Engine, the one that answers or else one of our own."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from scripts.stack.services import Stack

# A shell that starts the tests in the background makes them deaf to Ctrl-C, and with them every program that a test
# sends it to.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def docker_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Docker Engine. One that we had to start ends with the tests."""
    stack = Stack(tmp_path_factory.mktemp("engine"), any_ports=True)
    stack.start("engine")
    yield stack.engine_url
    stack.process("engine").stop()
