"""What hostile cases share: a container as builds have it, with nothing in it but busybox."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import docker
import hypothesis
import pytest

from builder.engine.docker import Engine, Limits
from tests.integration.busybox import busybox_root

LIMITS = Limits(128 << 20, 1.0, 64, 48 << 20)


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
def image(engine: Engine, sdk: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    key = f"test-{secrets.token_hex(6)}"
    yield engine.import_root(busybox_root(tmp_path_factory.mktemp("busybox")), key)
    sdk.images.remove(f"goldsmith-cache:{key}", force=True)


@pytest.fixture
def build_id() -> str:
    return f"test{secrets.token_hex(11)}"


# `scripts/fuzz` asks for the second.
hypothesis.settings.register_profile("hours", max_examples=5_000)
