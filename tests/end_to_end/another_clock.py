"""The build and rebuild workers as they are, but whatever runs in their containers and bootstraps sees a later day.

libfaketime does it, preloaded from a place below /run, which no image keeps. The real clock stays as it is, for it
belongs to the machine. TEST_CLOCK_LIBRARY names the library.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from builder.engine import debian
from builder.engine.assembly import Assembly
from builder.engine.container import Container
from builder.engine.docker import Engine
from workers import build, rebuild
from workers.app import app

__all__ = ["app", "build", "rebuild"]

LIBRARY = Path(os.environ["TEST_CLOCK_LIBRARY"])
PLACE = "/run/clock/libfaketime.so.1"
CLOCK = {"LD_PRELOAD": PLACE, "FAKETIME": "+400d"}

_run_in_container, _build_container, _run = Assembly._run, Engine.build_container, debian.run


def run_in_container(self: Assembly, argv: Sequence[str], environment: dict[str, str] | None = None) -> str:
    return _run_in_container(self, argv, {**(environment or {}), **CLOCK})


@contextmanager
def build_container(
    self: Engine, image: str, build_id: str, environment: Mapping[str, str], **options: Any
) -> Iterator[Container]:
    with _build_container(self, image, build_id, environment, **options) as container:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.add(LIBRARY, PLACE.lstrip("/"))
        container.put(buffer.getvalue())
        yield container


def run(argv: Sequence[str | Path], **options: Any) -> Any:
    here = list(argv).index("mmdebstrap") + 1
    place = f'"$1{PLACE}"'
    hooks = [
        f'--setup-hook=mkdir -p "$(dirname {place})" && cp {LIBRARY} {place}',
        '--customize-hook=echo "the day in the bootstrap: $(chroot "$1" date -I)" >&2',
    ]
    return _run([*argv[:here], *hooks, *argv[here:]], **{**options, "env": {**options["env"], **CLOCK}})


Assembly._run = run_in_container  # type: ignore[method-assign]
Engine.build_container = build_container  # type: ignore[method-assign]
debian.run = run  # type: ignore[assignment]
