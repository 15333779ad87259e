from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.sandbox_server import Sandbox, running_sandbox


@pytest.fixture(scope="session", autouse=True)
def _engine(docker_engine: str) -> str:
    return docker_engine


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("sandbox") / "state") as running:
        yield running


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("foreign") / "state") as running:
        yield running
