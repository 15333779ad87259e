from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _engine(docker_engine: str) -> str:
    return docker_engine
