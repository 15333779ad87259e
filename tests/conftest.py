"""What more than one kind of test needs: a Docker Engine, the one that answers or else one of our own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

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


class ByEngine(LoadScopeScheduling):
    """Files of tests run side by side; all that share the one engine run one after the other, in one process."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "engine" if _needs_the_engine(self.config.rootpath / file) else file


@cache
def _needs_the_engine(file: Path) -> bool:
    return "end_to_end" in file.parts or bool(
        {"integration", "security"} & {*file.parts} and "docker" in file.read_text()
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByEngine:
    return ByEngine(config, log)
