"""A pipeline's services with a registry and the engine of the tests: `pytest_plugins` names this module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.pipeline.services import Services
from builder.settings import Settings
from tests.integration.registry_server import running_registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def services(tmp_path: Path, registry: str, docker_engine: str) -> Services:
    made = Services(
        Settings(
            state_directory=tmp_path / "state",
            database_url=f"sqlite:///{tmp_path / 'a.db'}",
            registry=registry,
            engine_url=docker_engine,
        )
    )
    made.database.migrate()
    return made
