"""What more than one kind of test needs: a Docker Engine, that which answers or one of our own, and a tiny image."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import docker
import pytest
from xdist.scheduler import LoadScopeScheduling

from builder.engine.docker import Engine
from scripts.stack.services import Stack
from tests.integration.busybox import LIMITS, busybox_root

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


@pytest.fixture(scope="session")
def engine(docker_engine: str) -> Iterator[Engine]:
    found = Engine(docker_engine, LIMITS)
    yield found
    found.close()


@pytest.fixture(scope="session")
def sdk(docker_engine: str) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=docker_engine)
    yield client
    client.close()


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tar of a root file system with nothing in it but busybox."""
    return busybox_root(tmp_path_factory.mktemp("busybox"))


@pytest.fixture(scope="session")
def image(engine: Engine, sdk: docker.DockerClient, root: Path) -> Iterator[str]:
    key = f"test-{secrets.token_hex(6)}"
    yield engine.import_root(root, key)
    sdk.images.remove(f"goldsmith-cache:{key}", force=True)


@pytest.fixture
def build_id() -> str:
    return f"test{secrets.token_hex(11)}"


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
