"""What a plan says of where packages come from."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from builder.pipeline.plan import Sources
from builder.pipeline.services import Services
from builder.settings import Settings
from tests.unit.locks import package


def test_a_registry_that_does_not_answer_is_asked_once_and_nothing_is_guessed(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        registry = f"127.0.0.1:{silent.getsockname()[1]}"
        services = Services(
            Settings(
                database_url=f"sqlite:///{tmp_path / 'none.db'}",
                state_directory=tmp_path,
                registry=registry,
                insecure_registries=(registry,),
            )
        )
        sources = Sources(services, "golden/web", locked=True)
        started = time.monotonic()
        assert {sources.of(package(name)) for name in ("apt", "dpkg", "tini", "tar")} == {"unknown"}
        assert time.monotonic() - started < 5
        assert Sources(services, "golden/web", locked=False).of(package("apt")) == "archive"
